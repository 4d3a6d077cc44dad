"""MMDetection's keys, which are this library's own; MMSegmentation has the same."""

from __future__ import annotations

from ..table import Layout, Table, alike, same

STEM = ("conv1.{p}", "bn1.{p}")
POOL = "maxpool.{k}.{p}"  # ResNet-RS: a convolution and a norm
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

SK = ("conv{i}.paths.{k}.{rest}", "conv{i}.attn.{rest}")

ADDED = (
    "conv{i}.conv_offset.{p}",
    "conv2.conv.conv_offset.{p}",
    "convs.{k}.conv_offset.{p}",
    *SK,
    "se_layer.conv{i}.conv.{p}",
    "eca{rest}",
    "cbam{rest}",
    "sk{rest}",
    "drop_block{rest}",
    "conv_block{rest}",
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

HRNET = ("conv{i}.{p}", "bn{i}.{p}", "transition{s}.{rest}", "stage{s}.{rest}")
HRNET_HEADS = same("incre_modules.{rest}", "downsamp_modules.{rest}", "final_layer.{rest}", "classifier.{p}")
HRNET_SIGNS = alike("conv1.weight", "conv2.weight", "stage2.0.branches.0.0.conv1.weight")

GHOSTNET = ("conv_stem.{p}", "bn1.{p}", "blocks.{i}.{j}.{rest}")
GHOSTNET_HEADS = same("blocks.9.{rest}", "conv_head.{p}", "classifier.{p}")
GHOSTNET_SIGNS = alike("conv_stem.weight", "blocks.0.0.ghost1.primary_conv.0.weight")
GHOSTNET_V3_SIGNS = alike("conv_stem.weight", "blocks.0.0.ghost1.cheap_rpr_conv.0.conv.weight")
(GHOSTNET_V3_NORM,) = alike("blocks.0.0.ghost1.cheap_rpr_conv.0.bn1.weight")

CONVNEXT = (
    "downsample_layers.{s}.{k}.{p}",
    "stages.{s}.{j}.depthwise_conv.{p}",
    "stages.{s}.{j}.norm.{p}",
    "stages.{s}.{j}.pointwise_conv{i}.{p}",
    "stages.{s}.{j}.grn.{p}",
    "stages.{s}.{j}.gamma",
    "norm{s}.{p}",
)
CONVNEXT_SIGNS = alike("downsample_layers.0.0.weight", "stages.0.0.depthwise_conv.weight")

RESNETV2 = ("stem.{rest}", "stages.{s}.blocks.{j}.{rest}", "norm.{p}")
RESNETV2_SIGNS = tuple(
    alike(stem, "stages.0.blocks.0.norm1.weight") for stem in ("stem.conv.weight", "stem.conv1.weight")
)

VGG_SIGNS = alike("features.0.weight")
VGG_HEADS = same("classifier.{k}.{p}")

LAYOUT = Layout(
    "mmdet",
    "MMDetection's and MMSegmentation's, and this library's own",
    (
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM, POOL) + same(*BLOCK, *ADDED, at=IN_BLOCK),
            heads=FC,
        ),
        Table(
            "ResNet with a deep stem",
            alike("stem.0.weight", "layer1.0.conv1.weight"),
            same("stem.{k}.{p}", POOL) + same(*BLOCK, *ADDED, at=IN_BLOCK),
            heads=FC,
        ),
        Table("HRNet", HRNET_SIGNS, same(*HRNET) + same(*BLOCK, *ADDED, at=IN_BLOCK), heads=HRNET_HEADS),
        Table("VGG", VGG_SIGNS, same("features.{k}.{p}"), heads=VGG_HEADS),
        Table("ConvNeXt", CONVNEXT_SIGNS, same(*CONVNEXT), heads=FC, borrowed=True),
        *(
            Table("ResNetV2", signs, same(*RESNETV2), heads=same("head.fc.{p}"), borrowed=True)
            for signs in RESNETV2_SIGNS
        ),
        Table("GhostNet", GHOSTNET_SIGNS, same(*GHOSTNET), heads=GHOSTNET_HEADS, borrowed=True),
        Table(
            "GhostNetV3",
            (*GHOSTNET_V3_SIGNS, GHOSTNET_V3_NORM),
            same(*GHOSTNET),
            heads=GHOSTNET_HEADS,
            borrowed=True,
        ),
        Table(
            "SKResNet of basic blocks",
            alike("layer1.0.conv1.paths.0.conv.weight"),
            same(*STEM, "stem.{k}.{p}", POOL) + same(*BLOCK, *ADDED, at=IN_BLOCK),
            heads=FC,
        ),
    ),
    norms_by_type=True,
    headless=True,
)
