"""MMDetection's keys, which are this library's own; MMSegmentation has the same."""

from __future__ import annotations

from ..table import Layout, Table, alike, same

STEM = ("conv1.{p}", "bn1.{p}")
BLOCK = (
    "conv{i}.{p}",
    "bn{i}.{p}",
    "downsample.{k}.{p}",
    "conv2.conv.{p}",  # ResNeSt: split attention
    "conv2.bn{i}.{p}",
    "conv2.fc{i}.{p}",
    "convs.{k}.{p}",  # Res2Net
    "bns.{k}.{p}",
)
"""What most libraries call the layers of a residual block alike."""

ADDED = (
    "conv{i}.conv_offset.{p}",
    "conv2.conv.conv_offset.{p}",
    "convs.{k}.conv_offset.{p}",
    "se_layer.conv{i}.conv.{p}",
    "context_block{rest}",
    "gen_attention_block{rest}",
    "nonlocal_block{rest}",
    "conv{i}.pre_context.{p}",  # switchable atrous convolution
    "conv{i}.post_context.{p}",
    "conv{i}.switch.{p}",
    "conv{i}.offset_{rest}",
    "rfp_conv.{p}",
)
"""What blocks carry in MMDetection and here."""

FC = same("fc.{p}")
IN_BLOCK = "layer{s}.{j}."

LAYOUT = Layout(
    "mmdet",
    "MMDetection's and MMSegmentation's, and this library's own",
    (
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM) + same(*BLOCK, *ADDED, at=IN_BLOCK),
            heads=FC,
        ),
        Table(
            "ResNet with a deep stem",
            alike("stem.0.weight", "layer1.0.conv1.weight"),
            same("stem.{k}.{p}") + same(*BLOCK, *ADDED, at=IN_BLOCK),
            heads=FC,
        ),
    ),
    norms_by_type=True,
    headless=True,
)
