"""Every family beside its origin: how long nets take to build, and to run forward.

    python -m benchmarks.families --markdown docs/benchmarks/families.md --json docs/benchmarks/families.json

Building: every model name on the meta device, after a warm-up; the best of three, without garbage collection, whose
turn comes with whichever net is next. Forward: ours, the origin and the origin again on
the same weights, interleaved in changing order; the ratio of the medians, and, for the noise, the origin's to itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from backbone_kit import build_backbone, list_backbones, load_checkpoint

from .rounds import described, machine

PEERS = (
    *("resnet50", "resnet50d", "resnetaa50", "seresnet50", "ecaresnet50d", "resnext50_32x4d", "wide_resnet50_2"),
    *("resnetrs50", "skresnet50", "resnest50d", "res2net50_26w_4s", "ghostnet_100", "ghostnetv2_100", "ghostnetv3_100"),
    *("regnetx_032", "regnety_032", "hrnet_w18", "vgg16", "convnext_tiny", "convnextv2_tiny", "resnetv2_50"),
    "resnetv2_50x1_bit",
)
SIZE = (2, 3, 224, 224)


def building(name: str) -> float:
    """Seconds on the meta device."""
    with torch.device("meta"):
        return min(timeit.repeat(lambda: build_backbone(name), number=1, repeat=3))


def forward(name: str, rounds: int) -> dict[str, float]:
    """Medians in seconds: ours, theirs, theirs again."""
    peer = timm.create_model(name, num_classes=0).eval()
    net = build_backbone(name).eval()
    load_checkpoint(net, peer.state_dict(), layout="timm")
    x = torch.randn(SIZE)
    run: dict[str, Callable[..., Any]] = {"ours": net, "theirs": features(peer), "again": features(peer)}
    found: dict[str, list[float]] = {key: [] for key in run}
    with torch.inference_mode():
        for turn in range(-1, rounds):
            for key in list(run) if turn % 2 else list(run)[::-1]:
                start = time.perf_counter()
                run[key](x)
                if turn >= 0:
                    found[key].append(time.perf_counter() - start)
    return {key: statistics.median(times) for key, times in found.items()}


def features(peer: nn.Module) -> Callable[[torch.Tensor], Any]:
    """What a peer computes up to its last map; of HRNet, its branches."""
    if type(peer).__name__ == "HighResolutionNet":
        return lambda x: peer.stages(peer.act2(peer.bn2(peer.conv2(peer.act1(peer.bn1(peer.conv1(x)))))))  # type: ignore[operator]
    return peer.forward_features  # type: ignore[return-value]


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    builds = report["build"]
    slow = {name: seconds for name, seconds in builds.items() if seconds > 0.2}
    lines = [
        "# Families beside their origins",
        "",
        f"{described(report['machine'])}. `python -m benchmarks.families` writes this page.",
        "",
        f"Building on the meta device, {len(builds)} names: median {statistics.median(builds.values()) * 1e3:.0f} ms, "
        f"longest {max(builds.values()) * 1e3:.0f} ms ({max(builds, key=lambda name: builds[name])}); over 200 ms: "
        + (", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in slow.items()) or "none")
        + ".",
        "",
        f"Forward, {'x'.join(map(str, SIZE))}, float32, timm's net on the same weights:",
        "",
        "| name | ours ms | timm ms | ours / timm | timm / timm |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, times in report["forward"].items():
        ratios = f"{times['ours'] / times['theirs']:.2f} | {times['again'] / times['theirs']:.2f}"
        lines.append(f"| {name} | {times['ours'] * 1e3:.1f} | {times['theirs'] * 1e3:.1f} | {ratios} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {"machine": machine()}
    building("resnet50")
    report["build"] = {name: building(name) for name in list_backbones()}
    report["forward"] = {name: forward(name, args.rounds) for name in PEERS}
    page = markdown(report)
    print(page)
    for path, text in ((args.json, json.dumps(report, indent=1)), (args.markdown, page)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main()
