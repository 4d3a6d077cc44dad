"""What passes before the first picture: imports, a config, a net, a net with weights."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from . import nets
from .checkpoints import LOADS, written
from .rounds import seconds

# Each is a process; what it takes is told beyond the one that it is based on.
STARTS = {
    "import torch": ("", "import torch"),
    "import backbone_kit, over torch": ("import torch", "import torch, backbone_kit.backbones"),
    "import timm, over torch": ("import torch", "import torch, timm"),
    "import torchvision.models, over torch": ("import torch", "import torch, torchvision.models"),
    "load a config, without torch": (
        "",
        "from backbone_kit import Config; Config.fromfile('configs/resnet/resnet50.yaml')",
    ),
}
BUILDS: dict[str, Callable[[], nn.Module]] = {
    "build on the meta device": lambda: _on_meta(nets.ours),
    "build timm's on the meta device": lambda: _on_meta(nets.timms),
    "build on the CPU": nets.ours,
    "build timm's on the CPU": nets.timms,
    "build torchvision's on the CPU": nets.torchvisions,
}


def starting(rounds: int) -> dict[str, float]:
    """Median seconds."""
    found = {name: _over(*codes, rounds) for name, codes in STARTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder, "resnet101.safetensors"))
        loads = {name: partial(load, file) for name, load in LOADS.items()}
        built = seconds({**BUILDS, **loads}, rounds)
    return found | {name: values["seconds"] for name, values in built.items()}


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def _over(base: str, code: str, rounds: int) -> float:
    """The median of what a process takes beyond another one, started just before it; both find compiled files."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(rounds + 1):
        times = []
        for each in (base, code):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", each], check=True, stderr=subprocess.DEVNULL, env=environment)
            times.append(time.perf_counter() - start)
        taken.append(times[1] - times[0])
    return statistics.median(taken[1:])
