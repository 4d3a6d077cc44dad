"""Trains a backbone to tell drawn shapes apart, on as many processes as there are, and goes on where it was killed.

    torchrun --nproc-per-node 2 examples/train_distributed.py --cfg resnet18 --out runs/shapes
    torchrun --nproc-per-node 8 --max-restarts 3 examples/train_distributed.py --cfg resnet50 --fsdp --out runs/shapes

The second shares out parameters, gradients and the optimizer's state (FSDP2). What is random in a step comes from the
seed and the step's number, so that a checkpoint is weights, optimizer and a number; any number of processes reads it,
with or without `--fsdp`, but only for the net it is of.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

from backbone_kit import CheckpointError, Config, ConfigError, build_backbone
from backbone_kit.analysis import input_channels
from backbone_kit.distributed import average_statistics, shard, whole_parameters
from backbone_kit.errors import Problem, located
from backbone_kit.finetune import convert_norms, freeze_unused, param_groups, what_trains
from backbone_kit.heads import ClassifierHead
from backbone_kit.names import is_name

SHAPES = ("square", "disk", "cross")
HELD_OUT = range(10**9, 10**9 + 96)  # pictures that no step sees


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cfg", default="resnet18", help="what build_backbone takes: a file or a name")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints, seen by all processes")
    parser.add_argument("--pretrained", help="weights of the backbone")
    parser.add_argument("--frozen-stages", type=int, default=-1)
    parser.add_argument("--fsdp", action="store_true", help="share out what each process has whole otherwise")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    parser.add_argument(
        "--backend", choices=("nccl", "gloo"), default=backend, help="default: nccl where there are GPUs"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32, help="pictures a step, of all processes together")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--layer-decay", type=float, default=1.0)
    parser.add_argument("--save-every", type=int, default=1, help="steps between checkpoints: what a killed run loses")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Finds what the user did wrong, on every process by itself: none waits for another, or has built anything yet.

    Raises:
        ConfigError: An argument is out of range, or is not the one that the run in `--out` has.
        CheckpointError: The weights cannot be loaded, or the run in `--out` is damaged.
    """
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    with located("--cfg"), torch.device("meta"):
        net = build_backbone(args.cfg)
        if (channels := input_channels(net)) != 3:
            raise ConfigError(f"must take 3, as the pictures have colours, got {channels}", ("in_channels",))
    seeds = 2**63 // max(1, args.steps * args.batch)
    ranges = {
        "frozen_stages": (-1 <= args.frozen_stages <= net.num_stages, f"from -1, nothing, to {net.num_stages}, all"),
        "steps": (args.steps >= 0, "0 or more"),
        "batch": (args.batch > 0 and args.batch % world == 0, f"over 0, a multiple of the {world} processes"),
        "size": (args.size >= 1, "1 or more"),
        "lr": (0 < args.lr < math.inf, "over 0 and finite"),
        "layer_decay": (0 < args.layer_decay <= 1, "over 0 and up to 1"),
        "save_every": (args.save_every >= 1, "1 or more"),
        "seed": (0 <= args.seed < seeds, f"from 0 to {seeds - 1}"),
        "backend": (
            args.backend == "gloo" or torch.cuda.device_count() >= local,
            f"gloo where fewer GPUs are than processes, {torch.cuda.device_count()} for {local}",
        ),
    }
    wrong = [
        Problem(f"must be {allowed}, got {getattr(args, name)}", (f"--{name.replace('_', '-')}",))
        for name, (fits, allowed) in ranges.items()
        if not fits
    ]
    if wrong:
        raise ConfigError(wrong)
    outline(args).backbone.init_weights()  # on the meta device: weights are read, and fit or not
    had, has = newest(args.out)[1], settled(args)
    others = [key for key in has if had.get(key, has[key]) != has[key]]
    if others:
        cure = "; pass that, or choose another --out"
        raise ConfigError(
            [Problem(f"is {has[key]!r}, the run in {args.out} has {had[key]!r}{cure}", (key,)) for key in others]
        )
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"must be a folder, got {str(args.out)!r}: {error.strerror}", ("--out",)) from error


def settled(args: argparse.Namespace) -> dict[str, Any]:
    """What a run keeps to its end, as JSON has it: the net, and how the optimizer groups its parameters."""
    cfg = args.cfg if is_name(args.cfg) else Config.fromfile(args.cfg).to_dict()
    kept = {"--cfg": cfg, "--frozen-stages": args.frozen_stages, "--layer-decay": args.layer_decay}
    return json.loads(json.dumps(kept, default=str))


def join(backend: str) -> torch.device:
    """Becomes one of the processes that torchrun started, or the only one; returns its device."""
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        store, rank, world = dist.HashStore(), 0, 1
        if "RANK" in os.environ:
            store, rank, world = next(dist.rendezvous("env://"))
        # torchrun's store outlives a restart, and knows where the processes were that were killed.
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(backend, store=dist.PrefixStore(restarts, store), rank=rank, world_size=world)
    return device


def outline(args: argparse.Namespace) -> ClassifierHead:
    """The classifier without memory."""
    weights = args.pretrained and dict(type="Pretrained", checkpoint=args.pretrained)
    with torch.device("meta"):
        net = build_backbone(args.cfg, frozen_stages=args.frozen_stages, init_cfg=weights)
    return ClassifierHead(net, len(SHAPES))


def build(args: argparse.Namespace, device: torch.device) -> nn.Module:
    """A classifier with the parameters that belong on this process; its weights are those of a single process."""
    torch.manual_seed(args.seed)
    model = outline(args)  # memory comes when it is known who holds what
    freeze_unused(model)
    if device.type == "cuda":
        convert_norms(model, dict(type="SyncBN"))  # statistics over the pictures of all processes
    if args.fsdp:
        shard(model)
    model.to_empty(device=device)
    model.backbone.init_weights()
    with whole_parameters(model.fc):
        model.fc.reset_parameters()
    return model.train()


def drawn(index: int, size: int) -> Tensor:
    """One picture, by number: the same in every run and on every process. It shows `SHAPES[index % 3]`."""
    draw = torch.Generator().manual_seed(index)
    radius, *centre = (0.2 + 0.1 * torch.rand(1, generator=draw), *(0.35 + 0.3 * torch.rand(2, generator=draw)))
    y, x = ((torch.linspace(0, 1, size) - c).abs() / radius for c in centre)
    y, x = y[:, None].expand(size, size), x.expand(size, size)
    larger, smaller = torch.maximum(x, y), torch.minimum(x, y)
    inside = [larger < 0.9, x.square() + y.square() < 1, (larger < 1.1) & (smaller < 0.4)][index % len(SHAPES)]
    paper, ink = 0.4 * torch.rand(2, 3, 1, 1, generator=draw)
    return torch.where(inside, ink + 0.6, paper) + 0.05 * torch.randn(3, size, size, generator=draw)


def pictures(indices: Sequence[int], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of all these pictures, those that this process has to look at, and what they show."""
    own = indices[dist.get_rank() :: dist.get_world_size()]
    kinds = torch.tensor([index % len(SHAPES) for index in own])
    return torch.stack([drawn(index, size) for index in own]).to(device), kinds.to(device)


def save(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, out: Path, kept: Mapping[str, Any]) -> None:
    """Writes a folder, each process its share; then, in one act, says that it is the newest."""
    average_statistics(model)
    weights, states = get_state_dict(model, optimizer)
    folder = out / f"step{step}"
    dcp.save(dict(model=weights, optimizer=states), checkpoint_id=folder)
    if dist.get_rank() == 0:
        (folder / "run.json").write_text(json.dumps(kept))
        (out / "newest.tmp").write_text(str(step))
        os.replace(out / "newest.tmp", out / "newest")
        for other in set(out.glob("step*")) - {folder}:
            shutil.rmtree(other)
    dist.barrier()


def newest(out: Path) -> tuple[int, dict[str, Any]]:
    """How many steps the newest checkpoint has behind it, 0 where there is none, and what is `settled` in its run."""
    if not (out / "newest").exists():
        return 0, {}
    try:
        step = int((out / "newest").read_text())
        run = out / f"step{step}" / "run.json"
        return step, json.loads(run.read_text()) if run.exists() else {}
    except ValueError as error:
        raise damaged(out, error) from error


def resume(model: nn.Module, optimizer: torch.optim.Optimizer, out: Path) -> int:
    """Reads the newest checkpoint, if there is one; returns how many steps have been done."""
    step, _ = newest(out)
    if step:
        weights, states = get_state_dict(model, optimizer)
        try:
            dcp.load(dict(model=weights, optimizer=states), checkpoint_id=out / f"step{step}")
        except dcp.CheckpointException as error:  # on every process, of whichever it is
            raise damaged(out, next(iter(error.failures.values()))[0]) from error
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=states)
    return step


def damaged(out: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(f"{out}: its newest checkpoint cannot be read ({error}); choose another --out")


def accuracy(model: nn.Module, size: int, device: torch.device) -> float:
    x, kinds = pictures(HELD_OUT, size, device)
    model.eval()
    with torch.no_grad():
        right = (model(x).argmax(1) == kinds).sum()
    dist.all_reduce(right)
    return right.item() / len(HELD_OUT)


def train(args: argparse.Namespace) -> nn.Module:
    device = join(args.backend)
    rank, world = dist.get_rank(), dist.get_world_size()
    say = print if rank == 0 else lambda *_: None
    kept = settled(args)

    model = build(args, device)
    say(what_trains(model))
    optimizer = torch.optim.AdamW(param_groups(model, args.lr, layer_decay=args.layer_decay))
    rates = [group["lr"] for group in optimizer.param_groups]
    done = resume(model, optimizer, args.out)
    say(f"{world} processes, from step {done}")
    runs = (
        model
        if args.fsdp
        else DistributedDataParallel(model, device_ids=[device] if device.index is not None else None)
    )

    for step in range(done, args.steps):
        torch.manual_seed((args.seed * args.steps + step) * world + rank)  # of what is random in the model
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * (1 + math.cos(math.pi * step / args.steps)) / 2
        first = (args.seed * args.steps + step) * args.batch
        x, kinds = pictures(range(first, first + args.batch), args.size, device)
        loss = F.cross_entropy(runs(x), kinds)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach() / world
        dist.all_reduce(mean)
        say(f"step {step}: loss {mean.item():.4f}")
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save(model, optimizer, step + 1, args.out, kept)
    say(f"accuracy on {len(HELD_OUT)} other pictures: {accuracy(model, args.size, device):.3f}")
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where the user did something wrong, which is one message a machine."""
    args = arguments(argv)
    try:
        check(args)
        train(args)
    except (ConfigError, CheckpointError) as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(10)  # until the machine's first process has said it, whereupon torchrun ends this one
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.exit(code)
