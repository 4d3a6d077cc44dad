"""torchvision's keys: those of ResNet are everybody's, and its norms are called `bn` whatever they are."""

from __future__ import annotations

from ..table import Layout, Rule, Table, View, alike, same
from .families import is_regnet
from .mmdet import FC, IN_BLOCK, STEM, VGG_HEADS, VGG_SIGNS

IN_REGNET = "trunk_output.block{s}.block{s}-{j}."
CHANNELS = View(ours=lambda x: x.flatten(), theirs=lambda x: x[:, None, None])


def _convnext() -> tuple[Rule, ...]:
    """Stages and what is between them are counted through."""
    rules = [Rule("downsample_layers.0.{k}.{p}", "features.0.{k}.{p}")]
    for stage in range(4):
        ours, theirs = f"stages.{stage}.{{j}}", f"features.{2 * stage + 1}.{{j}}"
        rules += [
            Rule(f"downsample_layers.{stage + 1}.{{k}}.{{p}}", f"features.{2 * stage + 2}.{{k}}.{{p}}"),
            Rule(f"{ours}.gamma", f"{theirs}.layer_scale", CHANNELS),
        ]
        names = {"depthwise_conv": 0, "norm": 2, "pointwise_conv1": 3, "pointwise_conv2": 5}
        rules += [Rule(f"{ours}.{name}.{{p}}", f"{theirs}.block.{place}.{{p}}") for name, place in names.items()]
    return tuple(rules)


LAYOUT = Layout(
    "torchvision",
    "torchvision's",
    (
        Table(
            "RegNet",
            (
                ("conv1.weight", "stem.0.weight"),
                ("layer1.0.conv1.weight", "trunk_output.block1.block1-0.f.a.0.weight"),
            ),
            (
                Rule("conv1.{p}", "stem.0.{p}"),
                Rule("bn1.{p}", "stem.1.{p}"),
                Rule("layer{s}.{j}.conv{i}.{p}", IN_REGNET + "f.{i:abc}.0.{p}"),
                Rule("layer{s}.{j}.bn{i}.{p}", IN_REGNET + "f.{i:abc}.1.{p}"),
                Rule("layer{s}.{j}.downsample.{k}.{p}", IN_REGNET + "proj.{k}.{p}"),
                Rule("layer{s}.{j}.se_layer.conv{i}.conv.{p}", IN_REGNET + "f.se.fc{i}.{p}"),
            ),
            heads=FC,
            fits=is_regnet,
        ),
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM) + same("conv{i}.{p}", "bn{i}.{p}", "downsample.{k}.{p}", at=IN_BLOCK),
            heads=FC,
        ),
        Table("VGG", VGG_SIGNS, same("features.{k}.{p}"), heads=VGG_HEADS),
        Table(
            "ConvNeXt",
            (
                ("downsample_layers.0.0.weight", "features.0.0.weight"),
                ("stages.0.0.depthwise_conv.weight", "features.1.0.block.0.weight"),
            ),
            _convnext(),
            heads=(Rule("norm3.{p}", "classifier.0.{p}"), Rule("fc.{p}", "classifier.2.{p}")),
        ),
    ),
)
