"""What was aimed at, beside what was reached; where it was not, what the same run says about why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

from .inference import ALONE, GFLOPS, YARDSTICK, YARDSTICK_GFLOPS

BF16 = "prepared, bf16: times faster than the faster peer as built"


@dataclass(frozen=True)
class Goal:
    """A figure that should be at most, or at least, a limit."""

    name: str
    reached: float
    limit: float
    at_least: bool = False
    reason: str = ""

    def __str__(self) -> str:
        met = self.reached >= self.limit if self.at_least else self.reached <= self.limit
        sign = "≥" if self.at_least else "≤"
        verdict = "yes" if met else f"no: {self.reason}" if self.reason else "no"
        reached = "–" if isnan(self.reached) else f"{self.reached:.3g}"
        return f"| {self.name} | {sign} {self.limit:g} | {reached} | {verdict} |"


def goals(report: Mapping[str, Any]) -> list[str]:
    """A table of those goals that the report has figures for."""
    found = []
    if "fine-tuning" in report:
        rows = report["fine-tuning"]
        ours, peers = rows["ours"], [rows[peer]["times the first"] for peer in ("timm", "torchvision")]
        apart = f"timm and torchvision, the same layers, are {max(peers) / min(peers) - 1:.0%} apart in that run"
        found += [
            Goal("fine-tuning: kept for backward, of timm's", ours["kept MiB"] / rows["timm"]["kept MiB"], 0.52),
            Goal("fine-tuning: time, of the faster peer's", 1 / min(peers), 1.0, reason=apart),
        ]
    if "inference" in report:
        found += _inference(report["inference"])
    for net, rows in report.get("families", {}).items():
        times = rows["timm"]["seconds"] / rows["prepared"]["seconds"]
        found.append(Goal(f"{net}, prepared: times faster than timm's", times, 1.0, True))
    if "starting" in report:
        values = report["starting"]
        timms = values["build timm's on the meta device"]
        found += [
            Goal(
                "import, seconds over torch's",
                values["import backbone_kit, over torch"],
                0.1,
                reason=f"torch itself takes {values['import torch']:.1f} s in that run",
            ),
            Goal("a config without torch, seconds", values["load a config, without torch"], 0.1),
            Goal(
                "ResNet-50 on the meta device, seconds",
                values["build on the meta device"],
                0.02,
                reason=f"timm's takes {timms:.3f} in that run",
            ),
        ]
    return ["| goal | limit | reached | met |", "| --- | --: | --: | --- |", *map(str, found)] if found else []


def _inference(rows: Mapping[str, Mapping[str, float]]) -> list[Goal]:
    """Ratios are medians of those within a round, to the first row, which is ours prepared."""
    took = {name: row["times the first"] for name, row in rows.items()}
    eager = min(took[peer] for peer in ("timm", "torchvision"))
    at_rate = took[YARDSTICK] * GFLOPS / YARDSTICK_GFLOPS
    bound = (
        f"its convolutions alone, packed, one after another, are {eager / took[ALONE]:.2f} times faster, all of it at "
        f"the rate of one convolution {eager / at_rate:.2f} times"
    )
    alone = f"its convolutions alone reach {at_rate / took[ALONE]:.2f}"
    found = [
        Goal("prepared: times faster than the faster peer as built", eager, 1.9, True, bound),
        Goal("prepared: GFLOP/s, of one convolution's", at_rate, 0.85, True, alone),
    ]
    compiled = [times for name, times in took.items() if name.endswith("compiled")]
    if compiled:
        found.append(Goal("prepared: time, of the faster compiled peer's", 1 / min(compiled), 1.0))
    if "ours, prepared, bf16" in rows:
        times = eager / took["ours, prepared, bf16"]
        found.append(Goal(BF16, times, 3.5, True, bound))
    else:
        found.append(Goal(BF16, nan, 3.5, True, "not measured, this processor emulates bfloat16"))
    return found
