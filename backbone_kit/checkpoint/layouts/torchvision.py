"""torchvision's keys: those of ResNet are everybody's, and its norms are called `bn` whatever they are."""

from __future__ import annotations

from ..table import Layout, Table, alike, same
from .mmdet import FC, IN_BLOCK, STEM

LAYOUT = Layout(
    "torchvision",
    "torchvision's",
    (
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM) + same("conv{i}.{p}", "bn{i}.{p}", "downsample.{k}.{p}", at=IN_BLOCK),
            heads=FC,
        ),
    ),
)
