"""What was aimed at, beside what was reached; where it was not, what the same run says about why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .inference import GFLOPS


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
        return f"| {self.name} | {sign} {self.limit:g} | {self.reached:.3g} | {verdict} |"


def goals(report: Mapping[str, Any]) -> list[str]:
    """A table of those goals that the report has figures for."""
    found = []
    if "fine-tuning" in report:
        rows = report["fine-tuning"]
        ours, peers = rows["ours"], [rows[peer]["seconds"] for peer in ("timm", "torchvision")]
        apart = f"timm and torchvision, the same layers, are {max(peers) / min(peers) - 1:.0%} apart in that run"
        found += [
            Goal("fine-tuning: kept for backward, of timm's", ours["kept MiB"] / rows["timm"]["kept MiB"], 0.52),
            Goal("fine-tuning: time, of the faster peer's", ours["seconds"] / min(peers), 1.0, reason=apart),
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
    prepared, conv = rows["ours, prepared"], rows["one 3×3 convolution"]["GFLOP/s"]
    eager = min(rows[peer]["seconds"] for peer in ("timm", "torchvision"))
    most = eager / (GFLOPS / conv)
    bound = f"one convolution reaches {conv:.0f} GFLOP/s here; a net at that rate would be {most:.2f} times faster"
    found = [
        Goal("prepared: times faster than the faster peer as built", eager / prepared["seconds"], 1.9, True, bound),
        Goal("prepared: GFLOP/s, of one convolution's", prepared["GFLOP/s"] / conv, 0.85, True),
    ]
    compiled = [row["seconds"] for name, row in rows.items() if name.endswith("compiled")]
    if compiled:
        found.append(Goal("prepared: time, of the faster compiled peer's", prepared["seconds"] / min(compiled), 1.0))
    if "ours, prepared, bf16" in rows:
        times = eager / rows["ours, prepared, bf16"]["seconds"]
        found.append(Goal("prepared, bf16: times faster than the faster peer as built", times, 3.5, True, bound))
    return found
