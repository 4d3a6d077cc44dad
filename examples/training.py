"""The loop of all examples: seeded, resumable, the best checkpoint kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoints import read, restore_run, save, save_run
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from settings import Settings, TrainingConfig
from shapes_data import Shapes, collate
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from backbone_kit.finetune import param_groups

Maps = dict[str, Tensor]
Measure = Callable[[list[Maps], list[Maps]], dict[str, float]]
"""From predictions and targets to figures by name, the first of which says which checkpoint is best."""


def train(
    model: nn.Module, settings: Settings, folder: Path, measure: Measure, resume: bool = False
) -> list[dict[str, float]]:
    """Trains a model that, as torchvision's detectors do, returns losses in training and predictions otherwise.

    Args:
        model: Changed in place; pictures go to where its parameters are.
        settings: The run's config.
        folder: Gets `best.pth`, the state dict that measured best, and `last.pth`, all that it takes to go on.
        measure: What the validation pictures are measured by.
        resume: Whether to go on from `last.pth`, to what an unbroken run would have given.

    Returns:
        A row for each measurement, the untrained model's first: figures, `step`, and the mean `loss` since the last.
    """
    config, console = settings.training, Console()
    optimizer = torch.optim.AdamW(param_groups(model, config.lr, config.weight_decay, config.layer_decay))
    schedule = LambdaLR(optimizer, lambda step: rate(step, config))
    parts = dict(model=model, optimizer=optimizer, schedule=schedule)
    history: list[dict[str, float]] = []

    def checkpoint(step: int, losses: list[float]) -> None:
        figures = evaluate(model, settings, "val", measure)
        score = next(iter(figures))
        is_best = all(figures[score] > row[score] for row in history)
        history.append(dict(figures, step=step, loss=sum(losses) / len(losses) if losses else math.nan))
        if is_best:
            save(model.state_dict(), folder / "best.pth")
        save_run(folder / "last.pth", parts, settings.cfg.to_dict(), history)
        loss = f"loss {history[-1]['loss']:.3f}  " if losses else ""
        console.print(f"step {step}  {loss}{in_words(figures)}", highlight=False, soft_wrap=True)

    if resume:
        history += restore_run(folder / "last.pth", parts, settings.cfg.to_dict())
        read(folder / "best.pth")  # which the end of the run needs
    else:
        checkpoint(0, [])
    start, losses = int(history[-1]["step"]), []
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=config.steps, completed=start)
        for step, batch in enumerate(batches(settings, start), start + 1):
            losses.append(train_step(model, optimizer, batch, config.max_norm))
            schedule.step()
            bar.update(task, completed=step, description=f"loss {losses[-1]:.3f}")
            if step % config.val_every == 0 or step == config.steps:
                checkpoint(step, losses)
                losses = []
    return history


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, max_norm: float) -> float:
    """One step downhill; returns the loss.

    Raises:
        FloatingPointError: The loss is no number any more.
    """
    loss = sum(model.train()(*on_device(batch, model)).values())
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()}; a lower training.lr may help")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


def rate(step: int, config: TrainingConfig) -> float:
    """The learning rate after so many steps, as part of the highest."""
    if step < config.warmup:
        return (step + 1) / (config.warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / (config.steps - config.warmup)))


def batches(settings: Settings, start: int) -> DataLoader:
    """The batches from step `start` on, each of pictures that were not drawn before."""
    config = settings.training
    pictures = Shapes(settings.data, "train", config.steps * config.batch_size, config.seed)
    indices = range(start * config.batch_size, len(pictures))
    own = torch.Generator()  # what the process draws does not depend on where the loader began
    return DataLoader(
        pictures, config.batch_size, sampler=indices, collate_fn=collate, num_workers=config.workers, generator=own
    )


@torch.no_grad()
def evaluate(model: nn.Module, settings: Settings, split: str, measure: Measure) -> dict[str, float]:
    """What a split's pictures are measured as."""
    length = dict(val=settings.data.val_pictures, test=settings.data.test_pictures)[split]
    pictures = Shapes(settings.data, split, length)
    predictions, targets = [], []
    for batch in DataLoader(pictures, settings.training.batch_size, collate_fn=collate, generator=torch.Generator()):
        predictions += [{key: value.cpu() for key, value in each.items()} for each in predict(model, batch[0])]
        targets += batch[1]
    return measure(predictions, targets)


@torch.no_grad()
def predict(model: nn.Module, pictures: list[Tensor]) -> list[Maps]:
    """What the model sees on pictures, which may be anywhere."""
    return model.eval()(on_device(pictures, model))


def on_device(value: Any, model: nn.Module) -> Any:
    """Tensors at any depth, where the model is."""
    if isinstance(value, (list, tuple)):
        return [on_device(item, model) for item in value]
    if isinstance(value, dict):
        return {key: on_device(item, model) for key, item in value.items()}
    return value.to(next(model.parameters()).device)


def in_words(figures: dict[str, float]) -> str:
    """Figures in one line."""
    return "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
