"""timm's keys. The original ResNeSt has the same: its stem is a sequence whose last norm stands outside, as `bn1`."""

from __future__ import annotations

from ..table import Layout, Rule, Table, alike, same
from .mmdet import BLOCK, FC, IN_BLOCK, STEM

IN_TIMM_BLOCK = (*same(*BLOCK, at=IN_BLOCK), Rule(IN_BLOCK + "se_layer.conv{i}.conv.{p}", IN_BLOCK + "se.fc{i}.{p}"))

LAYOUT = Layout(
    "timm",
    "timm's",
    (
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM) + IN_TIMM_BLOCK,
            heads=FC,
        ),
        Table(
            "ResNet with a deep stem",
            (("stem.0.weight", "conv1.0.weight"), ("layer1.0.conv1.weight", "layer1.0.conv1.weight")),
            (Rule("stem.7.{p}", "bn1.{p}"), Rule("stem.{k}.{p}", "conv1.{k}.{p}"), *IN_TIMM_BLOCK),
            heads=FC,
        ),
    ),
)
