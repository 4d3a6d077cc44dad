"""A ResNet-50 here and in timm and torchvision, side by side: `python -m benchmarks --write docs/benchmarks`.

Inference, a step of fine-tuning, what that keeps for backward, and starting. MMDetection cannot be installed without
compiled extensions; its ResNet runs convolutions and norms one by one, as ours does where they are not folded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbone_kit.optimize import prepare_for_inference
from tests.kept import kept_bytes

from . import nets
from .report import markdown, plot
from .rounds import machine, peak_mib, seconds

PICTURES = (3, 512, 512)


def inference(rounds: int, compiled: bool) -> dict[str, Any]:
    x = torch.randn(1, *PICTURES)
    peers = {"timm": nets.timms().eval(), "torchvision": nets.torchvisions().eval()}
    net = nets.ours().eval()
    bf16 = torch.bfloat16
    runs: dict[str, Callable[[Tensor], Any]] = {
        "ours, prepared": prepare_for_inference(net, x, compiled=compiled),
        "ours, prepared, bf16": prepare_for_inference(net, x, bf16, compiled=compiled),
        "ours, as built": net,
        **peers,
    }
    if compiled:
        runs |= {f"{name}, compiled": torch.compile(peer, options={"freezing": True}) for name, peer in peers.items()}
    with torch.no_grad():
        return seconds({name: lambda run=run: run(x) for name, run in runs.items()}, rounds)


def fine_tuning(rounds: int) -> dict[str, Any]:
    x = torch.randn(2, *PICTURES)
    kinds = {kind: nets.as_detectors_train(kind) for kind in ("ours", "ours, not folded", "timm", "torchvision")}

    def step(net: nn.Module) -> None:
        sum(out.mean() for out in net(x)).backward()
        for parameter in net.parameters():
            parameter.grad = None

    found = seconds({name: lambda net=net: step(net) for name, net in kinds.items()}, rounds)
    for name, net in kinds.items():
        found[name] |= {"kept MiB": kept_bytes(net, x) / 2**20, "peak MiB": peak_mib(lambda net=net: step(net))}
    return found


STARTS = {
    "import torch": "import torch",
    "import backbone_kit.backbones": "import backbone_kit.backbones",
    "import timm": "import timm",
    "load a config": "from backbone_kit import Config; Config.fromfile('configs/resnet/resnet50.yaml')",
}
BUILDS: dict[str, Callable[[], nn.Module]] = {
    "build on the meta device": lambda: _on_meta(nets.ours),
    "build on the CPU": nets.ours,
    "build timm's on the CPU": nets.timms,
    "build torchvision's on the CPU": nets.torchvisions,
}


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def starting(rounds: int) -> dict[str, float]:
    """Median seconds; of imports and the config, those of a process less those of an empty one."""
    codes = {"": "", **STARTS}
    taken: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - start)
    empty = statistics.median(taken.pop(""))
    found = {name: statistics.median(times) - empty for name, times in taken.items()}
    built = seconds(BUILDS, rounds)
    return found | {name: values["seconds"] for name, values in built.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, help="a folder for report.md, report.json and report.png")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eager", action="store_true", help="leave out what needs a compiler")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    report = {
        "machine": machine(),
        "rounds": arguments.rounds,
        "inference": inference(arguments.rounds, not arguments.eager),
        "fine-tuning": fine_tuning(arguments.rounds),
        "starting": starting(arguments.rounds),
    }
    print(markdown(report))
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (arguments.write / "report.md").write_text(markdown(report))
        plot(report, arguments.write / "report.png")


if __name__ == "__main__":
    main()
