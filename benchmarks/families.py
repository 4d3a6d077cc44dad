"""Every family beside its origin: how long nets take to build, and to run forward.

    python -m benchmarks.families --markdown docs/benchmarks/families.md --json docs/benchmarks/families.json

Building: every model name on the meta device, after a warm-up; the best of three, without garbage collection, whose
turn comes with whichever net is next. Forward: the origin, the origin again and ours on the same weights, interleaved
in changing order; the median of the ratios within a round, and, for the noise, that of the origin to itself. All is
processor time, of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import timeit
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from backbone_kit import build_backbone, list_backbones, load_checkpoint

from .rounds import Rows, described, machine, seconds

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
        return min(timeit.repeat(lambda: build_backbone(name), timer=time.process_time, number=1, repeat=3))


def forward(name: str, rounds: int) -> Rows:
    """Theirs, theirs again, and ours."""
    peer = timm.create_model(name, num_classes=0).eval()
    net = build_backbone(name).eval()
    load_checkpoint(net, peer.state_dict(), layout="timm")
    x = torch.randn(SIZE)
    runs = {key: partial(run, x) for key, run in (("theirs", features(peer)), ("again", features(peer)), ("ours", net))}
    with torch.inference_mode():
        return seconds(runs, rounds)


def features(peer: nn.Module) -> Callable[[torch.Tensor], Any]:
    """What a peer computes up to its last map; of HRNet, its branches."""
    if type(peer).__name__ == "HighResolutionNet":
        return lambda x: peer.stages(peer.act2(peer.bn2(peer.conv2(peer.act1(peer.bn1(peer.conv1(x)))))))  # type: ignore[operator]
    return peer.forward_features  # type: ignore[return-value]


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    builds = report["build"]
    slow = {name: taken for name, taken in builds.items() if taken > 0.2}
    lines = [
        "# Families beside their origins",
        "",
        f"{described(report['machine'])}. `python -m benchmarks.families` writes this page.",
        "",
        f"Building on the meta device, {len(builds)} names: median {statistics.median(builds.values()) * 1e3:.0f} ms, "
        f"longest {max(builds.values()) * 1e3:.0f} ms ({max(builds, key=lambda name: builds[name])}); over 200 ms: "
        + (", ".join(f"{name} {taken * 1e3:.0f} ms" for name, taken in slow.items()) or "none")
        + ".",
        "",
        f"Forward, {'x'.join(map(str, SIZE))}, float32, timm's net on the same weights:",
        "",
        "| name | ours ms | timm ms | ours / timm | timm / timm |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, rows in report["forward"].items():
        times = " | ".join(f"{rows[key]['processor'] * 1e3:.1f}" for key in ("ours", "theirs"))
        ratios = " | ".join(f"{rows[key]['times the first']:.2f}" for key in ("ours", "again"))
        lines.append(f"| {name} | {times} | {ratios} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
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
