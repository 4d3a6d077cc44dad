"""How long a ResNet-101 takes from a local file, ready to run: here, with torch alone, and with timm.

    python benchmarks/checkpoints.py

Here: built on the meta device, every value checked to be a number, the file's memory taken over. The others: built with
random weights, which are then overwritten. Wall clock and processor time, the least of several runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from backbone_kit import load_checkpoint
from backbone_kit.backbones import ResNet

REPEATS = 5


def ours(path: Path) -> None:
    with torch.device("meta"):
        net = ResNet(101)
    load_checkpoint(net, path)


def with_torch(path: Path) -> None:
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    torchvision.models.resnet101(weights=None).load_state_dict(weights, strict=False)


def with_timm(path: Path) -> None:
    timm.create_model("resnet101", num_classes=0, checkpoint_path=str(path))


def least(function: Callable[[Path], None], path: Path) -> tuple[float, float]:
    """Seconds of wall clock and of processor."""
    runs = []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        function(path)
        runs.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(run[0] for run in runs), min(run[1] for run in runs)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights = ResNet(101).state_dict()
        files = [Path(folder, "resnet101.safetensors"), Path(folder, "resnet101.pth")]
        save_file(weights, files[0])
        torch.save(weights, files[1])
        for file in files:
            for function in (ours, with_torch, with_timm):
                wall, processor = least(function, file)
                print(f"{file.suffix:<13}{function.__name__:<12}{wall:.3f} s, processor {processor:.3f} s")


if __name__ == "__main__":
    main()
