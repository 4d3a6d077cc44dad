"""What a ResNet-50 keeps for backward, and how long a step takes, in several ways of making things again.

    python -m benchmarks.recompute --write docs/benchmarks

Plain, with whole blocks recomputed (`with_cp`), with torch's selective checkpointing that keeps convolutions, with
`recompute='cheap'`, and with budgets; in training with batch statistics, and as detectors are fine-tuned.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from backbone_kit.backbones import ResNet
from tests.kept import held_bytes

from .rounds import machine, peak_mib, seconds

MIB = 2**20
RECIPES: dict[str, dict[str, Any]] = {
    "batch statistics": {"norm_eval": False},
    "fine-tuning (frozen_stages=1, norm_eval=True)": {"norm_eval": True, "frozen_stages": 1},
}
BUDGETS = (0.8, 0.6, 0.45, 0.35, 0.25)  # of what the plain net keeps


def selective(net: ResNet) -> ResNet:
    """Each block under torch's selective checkpointing, which keeps what convolutions give."""

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        is_kept = op is torch.ops.aten.convolution.default
        return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    for name in net.stage_names:
        for block in net.get_submodule(name).children():
            block.relu.inplace = False  # type: ignore[union-attr]  # it refuses to keep what is overwritten
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)  # type: ignore[method-assign]
    return net


def step(net: nn.Module, x: Tensor) -> None:
    sum(y.mean() for y in net(x)).backward()
    for parameter in net.parameters():
        parameter.grad = None


def measured(recipe: dict[str, Any], x: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Kept and peak MiB and seconds of each way."""
    plain = ResNet(50, **recipe)
    nets: dict[str, nn.Module] = {
        "plain": plain,
        "with_cp": ResNet(50, **recipe, with_cp=True),
        "torch's selective checkpointing": selective(ResNet(50, **recipe)),
        "ours, cheap": ResNet(50, **recipe, recompute="cheap"),
    }
    whole = held_bytes(plain.train(), x) / MIB
    for share in BUDGETS:
        budget = round(share * whole)
        nets[f"ours, {budget} MiB"] = ResNet(50, **recipe, recompute={"budget_mb": budget})
    runs: dict[str, Callable[[], None]] = {name: partial(step, net.train(), x) for name, net in nets.items()}
    found = seconds(runs, rounds)
    for name, net in nets.items():
        found[name] |= {"kept MiB": held_bytes(net, x) / MIB, "peak MiB": peak_mib(runs[name])}
    return found


def markdown(report: dict[str, Any]) -> str:
    about = report["machine"]
    lines = [
        "# Less kept for backward",
        "",
        f"A training step of a ResNet-50 at {report['pictures']}, float32. "
        f"{about['processor']} ({about['instructions']}), threads: {about['threads']}, load when it began: "
        f"{about['load']}; torch {about['torch']}. Medians of {report['rounds']} interleaved rounds; the ratio is of "
        "processor time, within a round. Kept: what the forward allocates and its graph holds, parameters and buffers "
        "aside; peak: the most that is allocated in a step. "
        "Made by `python -m benchmarks.recompute`.",
    ]
    for recipe, rows in report["recipes"].items():
        lines += [
            "",
            f"## {recipe[0].upper()}{recipe[1:]}",
            "",
            "| | kept, MiB | of plain | peak, MiB | seconds | processor seconds | of plain |",
            "| --- | --: | --: | --: | --: | --: | --: |",
        ]
        for name, row in rows.items():
            share = row["kept MiB"] / rows["plain"]["kept MiB"]
            memory = f"{row['kept MiB']:.1f} | {share:.2f} | {row['peak MiB']:.0f}"
            lines.append(
                f"| {name} | {memory} | {row['seconds']:.3f} | {row['processor']:.3f} | {row['times the first']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (recipe, rows) in zip(figure.subplots(1, 2), report["recipes"].items()):
        ours = sorted(
            (row["kept MiB"], row["times the first"]) for name, row in rows.items() if name.startswith("ours")
        )
        axes.plot(*zip(*ours), "o-", color="tab:blue", label="ours: cheap and budgets")
        for (name, row), marker in zip(rows.items(), "sD^*"):
            colour = "tab:blue" if name.startswith("ours") else "tab:grey"
            size = 13 if marker == "*" else 8
            axes.plot(row["kept MiB"], row["times the first"], marker, color=colour, markersize=size, label=name)
        axes.set_title(recipe, fontsize=10)
        axes.set_xlabel("kept for backward, MiB")
        axes.set_ylabel("time of a step, times plain")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, help="a folder for recompute.md, recompute.json and recompute.png")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    x = torch.randn(2, 3, given.size, given.size)
    report: dict[str, Any] = {
        "machine": machine(),
        "rounds": given.rounds,
        "pictures": f"2×3×{given.size}×{given.size}",
    }
    report["recipes"] = {name: measured(recipe, x, given.rounds) for name, recipe in RECIPES.items()}
    print(markdown(report))
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        (given.write / "recompute.json").write_text(json.dumps(report, indent=1) + "\n")
        (given.write / "recompute.md").write_text(markdown(report))
        plot(report, given.write / "recompute.png")


if __name__ == "__main__":
    main()
