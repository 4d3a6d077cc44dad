"""Deformable convolution beside torchvision's compiled operator, a plain convolution, and unfolding.

    python -m benchmarks.deform_conv [--json file] [--markdown file] [--rounds 15] [--threads 2]

Each round runs all of them once, forwards and backwards in turn; a ratio is the median over rounds of what two took in
the same round. Memory is the most that was allocated at one time beyond the arguments, as torch's profiler counts it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d as compiled

from backbone_kit.layers import deform_conv2d

from .rounds import described, machine, peak_mib

KERNEL, TAPS = 3, 9


@dataclass(frozen=True)
class Case:
    """A 3x3 deformable convolution of stride 1 on maps of (channels, size, size)."""

    channels: int
    size: int
    modulated: bool = True
    moving: int = 1
    groups: int = 1
    autocast: bool = False

    def __str__(self) -> str:
        words = [f"{self.channels}×{self.size}×{self.size}"]
        words += ["modulated"] * self.modulated
        words += [f"{self.moving} deform groups"] * (self.moving > 1)
        words += [f"{self.groups} groups"] * (self.groups > 1)
        words += ["bf16 autocast"] * self.autocast
        return ", ".join(words)


SIZES = ((128, 64), (256, 32), (512, 16))
CASES = [
    *(Case(channels, size, modulated) for channels, size in SIZES for modulated in (True, False)),
    *(Case(channels, size, moving=4) for channels, size in SIZES),
    *(Case(channels, size, groups=32) for channels, size in SIZES),
    *(Case(channels, size, autocast=True) for channels, size in SIZES),
]


class Problem:
    """The arguments of a case for two pictures, and what is compared on them.

    Args:
        case: The case.
    """

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        channels, size = case.channels, case.size
        self.case = case
        self.leaves = {
            "x": torch.randn(2, channels, size, size),
            "offset": 2 * torch.randn(2, 2 * TAPS * case.moving, size, size),
            "mask": torch.rand(2, TAPS * case.moving, size, size),
            "weight": torch.randn(channels, channels // case.groups, KERNEL, KERNEL) / (TAPS * channels) ** 0.5,
        }
        for leaf in self.leaves.values():
            leaf.requires_grad_()
        self.grad = torch.randn(2, channels, size, size)

    def deformed(self, function: Callable[..., Tensor]) -> Tensor:
        a = self.leaves
        mask = a["mask"] if self.case.modulated else None
        return function(a["x"], a["offset"], a["weight"], None, 1, 1, 1, mask)

    def convolved(self) -> Tensor:
        return F.conv2d(self.leaves["x"], self.leaves["weight"], None, 1, 1, 1, self.case.groups)

    def unfolded(self) -> Tensor:
        columns = F.unfold(self.leaves["x"], KERNEL, padding=1)
        groups = self.case.groups
        kernel = self.leaves["weight"].flatten(1).unflatten(0, (groups, -1))
        kernel = kernel.expand(2, -1, -1) if groups == 1 else kernel.repeat(2, 1, 1)
        return torch.bmm(kernel, columns.reshape(2 * groups, -1, columns.shape[2])).view(self.grad.shape)

    def runs(self) -> dict[str, Callable[[], Tensor]]:
        return {
            "ours": lambda: self.deformed(deform_conv2d),
            "torchvision": lambda: self.deformed(compiled),
            "convolution": self.convolved,
            "unfold": self.unfolded,
        }

    def once(self, run: Callable[[], Tensor], backward: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.case.autocast):
            if not backward:
                with torch.no_grad():
                    run()
                return
            out = run()
        for leaf in self.leaves.values():
            leaf.grad = None
        out.backward(self.grad.to(out.dtype))

    def peak_mib(self, name: str, backward: bool) -> float:
        """The most that is allocated at one time beyond the arguments, in MiB."""
        run = self.runs()[name]
        self.once(run, backward)
        for leaf in self.leaves.values():
            leaf.grad = None
        return peak_mib(lambda: self.once(run, backward))


def seconds(problem: Problem, names: list[str], backward: bool, rounds: int) -> dict[str, list[float]]:
    """What each took in each round, after one that does not count."""
    runs = problem.runs()
    taken: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds + 1):
        for name in names if index % 2 else reversed(names):
            start = time.perf_counter()
            problem.once(runs[name], backward)
            if index:
                taken[name].append(time.perf_counter() - start)
    return taken


def measure(case: Case, rounds: int) -> dict[str, Any]:
    problem = Problem(case)
    result: dict[str, Any] = {"case": str(case)}
    for step, backward in (("forward", False), ("forward and backward", True)):
        taken = seconds(problem, ["ours", "torchvision", "convolution"], backward, rounds)
        ratio = {
            name: statistics.median(theirs / ours for theirs, ours in zip(taken[name], taken["ours"]))
            for name in ("torchvision", "convolution")
        }
        result[step] = {
            "milliseconds": {name: 1e3 * statistics.median(values) for name, values in taken.items()},
            "times faster than torchvision": ratio["torchvision"],
            "times as long as a convolution": 1 / ratio["convolution"],
            "peak MiB": {name: problem.peak_mib(name, backward) for name in ("ours", "torchvision", "unfold")},
        }
    return result


def markdown(report: dict[str, Any]) -> str:
    lines = [
        "# Deformable convolution",
        "",
        f"{described(report['machine'])}. Two pictures, 3x3 kernels, float32 where nothing else is said; medians of "
        f"{report['rounds']} interleaved rounds. Made by `python -m benchmarks.deform_conv`.",
    ]
    for step in ("forward", "forward and backward"):
        lines += [
            "",
            f"## {step.capitalize()}",
            "",
            "| channels×H×W | ours, ms | torchvision, ms | times faster | plain convolution, ms | of its time "
            "| peak MiB | torchvision | unfold + product |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
        ]
        for row in report["cases"]:
            one, ms, mib = row[step], row[step]["milliseconds"], row[step]["peak MiB"]
            lines.append(
                f"| {row['case']} | {ms['ours']:.1f} | {ms['torchvision']:.1f} "
                f"| **{one['times faster than torchvision']:.1f}** | {ms['convolution']:.1f} "
                f"| {one['times as long as a convolution']:.1f} "
                f"| {mib['ours']:.1f} | {mib['torchvision']:.1f} | {mib['unfold']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--markdown", type=Path, help="where to write the tables")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report = {"machine": machine(), "rounds": arguments.rounds}
    report["cases"] = [measure(case, arguments.rounds) for case in CASES]
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
