"""Keys of ResNet in Hugging Face's transformers."""

from __future__ import annotations

from ..table import Layout, Rule, Table

BLOCK = "encoder.stages.{s-1}.layers.{j}."

LAYOUT = Layout(
    "transformers",
    "Hugging Face transformers'",
    (
        Table(
            "ResNet",
            (
                ("conv1.weight", "embedder.embedder.convolution.weight"),
                ("layer1.0.conv1.weight", "encoder.stages.0.layers.0.layer.0.convolution.weight"),
            ),
            (
                Rule("conv1.{p}", "embedder.embedder.convolution.{p}"),
                Rule("bn1.{p}", "embedder.embedder.normalization.{p}"),
                Rule("layer{s}.{j}.conv{i}.{p}", BLOCK + "layer.{i-1}.convolution.{p}"),
                Rule("layer{s}.{j}.bn{i}.{p}", BLOCK + "layer.{i-1}.normalization.{p}"),
                Rule("layer{s}.{j}.downsample.0.{p}", BLOCK + "shortcut.convolution.{p}"),
                Rule("layer{s}.{j}.downsample.1.{p}", BLOCK + "shortcut.normalization.{p}"),
            ),
            heads=(Rule("fc.{p}", "classifier.1.{p}"),),
        ),
    ),
    wrapper="resnet.",
)
