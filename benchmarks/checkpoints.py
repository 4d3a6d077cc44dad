"""How long a ResNet-101 takes from a local file, ready to run: here, with torch alone, and with timm.

    python -m benchmarks.checkpoints

Here: built on the meta device, every value checked to be a number, the file's memory taken over. The others: built with
random weights, which are then overwritten.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from backbone_kit import load_checkpoint
from backbone_kit.backbones import ResNet

from .rounds import seconds


def ours(path: Path) -> None:
    with torch.device("meta"):
        net = ResNet(101)
    load_checkpoint(net, path)


def with_torch(path: Path) -> None:
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    torchvision.models.resnet101(weights=None).load_state_dict(weights, strict=False)


def with_timm(path: Path) -> None:
    timm.create_model("resnet101", num_classes=0, checkpoint_path=str(path))


LOADS: dict[str, Callable[[Path], None]] = {
    "ResNet-101 from a file": ours,
    "torchvision's from it, with torch": with_torch,
    "timm's from it": with_timm,
}


def written(path: Path) -> Path:
    """`path`, with a ResNet-101's weights in it."""
    weights = ResNet(101).state_dict()
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("safetensors", "pth"):
            file = written(Path(folder, f"resnet101.{ending}"))
            rows = seconds({name: partial(load, file) for name, load in LOADS.items()}, 5)
            for name, row in rows.items():
                print(f"{ending:<13}{name:<36}{row['seconds']:.3f} s, processor {row['processor']:.3f} s")


if __name__ == "__main__":
    main()
