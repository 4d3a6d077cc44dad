"""detectron2's keys: norms belong to their convolution, stages count from `res2`."""

from __future__ import annotations

from ..table import Layout, Rule, Table

RULES = (
    Rule("layer{s}.{j}.conv2.conv_offset.{p}", "res{s+1}.{j}.conv2_offset.{p}"),
    Rule("layer{s}.{j}.conv{i}.{p}", "res{s+1}.{j}.conv{i}.{p}"),
    Rule("layer{s}.{j}.bn{i}.{p}", "res{s+1}.{j}.conv{i}.norm.{p}"),
    Rule("layer{s}.{j}.downsample.0.{p}", "res{s+1}.{j}.shortcut.{p}"),
    Rule("layer{s}.{j}.downsample.1.{p}", "res{s+1}.{j}.shortcut.norm.{p}"),
)
HEADS = (Rule("fc.{p}", "linear.{p}"),)

LAYOUT = Layout(
    "detectron2",
    "detectron2's",
    (
        Table(
            "ResNet",
            (("conv1.weight", "stem.conv1.weight"),),
            (Rule("conv1.{p}", "stem.conv1.{p}"), Rule("bn1.{p}", "stem.conv1.norm.{p}"), *RULES),
            heads=HEADS,
        ),
    ),
)
