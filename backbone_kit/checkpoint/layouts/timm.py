"""timm's keys. The original ResNeSt has the same: its stem is a sequence whose last norm stands outside, as `bn1`."""

from __future__ import annotations

from torch import Tensor

from ..table import Layout, Rule, Table, View, alike, same
from .families import is_regnet
from .mmdet import (
    BLOCK,
    FC,
    GHOSTNET,
    GHOSTNET_HEADS,
    GHOSTNET_SIGNS,
    GHOSTNET_V3_NORM,
    GHOSTNET_V3_SIGNS,
    HRNET,
    HRNET_HEADS,
    HRNET_SIGNS,
    IN_BLOCK,
    POOL,
    RESNETV2,
    RESNETV2_SIGNS,
    SK,
    STEM,
    VGG_SIGNS,
)


def _over_7x7(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1, 7, 7)


def _as_1x1(weight: Tensor) -> Tensor:
    return weight[:, :, None, None]


ATTENTION = (
    Rule(IN_BLOCK + "se_layer.conv{i}.conv.{p}", IN_BLOCK + "se.fc{i}.{p}"),
    Rule(IN_BLOCK + "eca.conv.{p}", IN_BLOCK + "se.conv.{p}"),
    Rule(IN_BLOCK + "cbam.channel.{rest}", IN_BLOCK + "se.channel.{rest}"),
    Rule(IN_BLOCK + "cbam.spatial.{rest}", IN_BLOCK + "se.spatial.{rest}"),
    Rule(IN_BLOCK + "sk.paths.{rest}", IN_BLOCK + "se.paths.{rest}"),
    Rule(IN_BLOCK + "sk.attn.{rest}", IN_BLOCK + "se.attn.{rest}"),
)
IN_TIMM_BLOCK = (*same(*BLOCK, at=IN_BLOCK), *ATTENTION)
DEEP_STEM = (Rule("stem.7.{p}", "bn1.{p}"), Rule("stem.{k}.{p}", "conv1.{k}.{p}"))

IN_SK_BLOCK = (
    *same(*SK, "downsample.{k}.{p}", at=IN_BLOCK),
    Rule(IN_BLOCK + "conv{i}.{p}", IN_BLOCK + "conv{i}.conv.{p}"),
    Rule(IN_BLOCK + "bn{i}.{p}", IN_BLOCK + "conv{i}.bn.{p}"),
    *ATTENTION,
)
SK_STEMS = ((("conv1.weight", "conv1.weight"), same(*STEM)), (("stem.0.weight", "conv1.0.weight"), DEEP_STEM))

REGNET = (
    Rule("conv1.{p}", "stem.conv.{p}"),
    Rule("bn1.{p}", "stem.bn.{p}"),
    Rule("layer{s}.{j}.conv{i}.{p}", "s{s}.b{j+1}.conv{i}.conv.{p}"),
    Rule("layer{s}.{j}.bn{i}.{p}", "s{s}.b{j+1}.conv{i}.bn.{p}"),
    Rule("layer{s}.{j}.downsample.0.{p}", "s{s}.b{j+1}.downsample.conv.{p}"),
    Rule("layer{s}.{j}.downsample.1.{p}", "s{s}.b{j+1}.downsample.bn.{p}"),
    Rule("layer{s}.{j}.se_layer.conv{i}.conv.{p}", "s{s}.b{j+1}.se.fc{i}.{p}"),
)

CONVNEXT_SIGNS = (
    ("downsample_layers.0.0.weight", "stem.0.weight"),
    ("stages.0.0.depthwise_conv.weight", "stages.0.blocks.0.conv_dw.weight"),
)
CONVNEXT = (
    Rule("downsample_layers.0.{k}.{p}", "stem.{k}.{p}"),
    Rule("downsample_layers.{s}.{k}.{p}", "stages.{s}.downsample.{k}.{p}"),
    Rule("stages.{s}.{j}.depthwise_conv.{p}", "stages.{s}.blocks.{j}.conv_dw.{p}"),
    Rule("stages.{s}.{j}.norm.{p}", "stages.{s}.blocks.{j}.norm.{p}"),
    Rule("stages.{s}.{j}.pointwise_conv{i}.{p}", "stages.{s}.blocks.{j}.mlp.fc{i}.{p}"),
    Rule("stages.{s}.{j}.grn.gamma", "stages.{s}.blocks.{j}.mlp.grn.weight"),
    Rule("stages.{s}.{j}.grn.beta", "stages.{s}.blocks.{j}.mlp.grn.bias"),
    Rule("stages.{s}.{j}.gamma", "stages.{s}.blocks.{j}.gamma"),
)


def _sk_table(stem: tuple[str, str], rules: tuple[Rule, ...], conv: int) -> Table:
    """An SKResNet with its kernels in place of that convolution: 1 in basic blocks, 2 in bottlenecks."""
    kernel = f"layer1.0.conv{conv}.paths.0.conv.weight"
    return Table("SKResNet", (stem, *alike(kernel)), rules + same(POOL) + IN_SK_BLOCK, heads=FC)


VGG_HEADS = (  # the classifier's layers, as convolutions
    Rule("classifier.0.weight", "pre_logits.fc1.weight", View(ours=lambda x: x.flatten(1), theirs=_over_7x7)),
    Rule("classifier.0.bias", "pre_logits.fc1.bias"),
    Rule("classifier.3.weight", "pre_logits.fc2.weight", View(ours=lambda x: x.flatten(1), theirs=_as_1x1)),
    Rule("classifier.3.bias", "pre_logits.fc2.bias"),
    Rule("classifier.6.{p}", "head.fc.{p}"),
)

LAYOUT = Layout(
    "timm",
    "timm's",
    (
        Table(
            "RegNet",
            (("conv1.weight", "stem.conv.weight"), ("layer1.0.conv1.weight", "s1.b1.conv1.conv.weight")),
            REGNET,
            heads=(Rule("fc.{p}", "head.fc.{p}"),),
            fits=is_regnet,
        ),
        Table(
            "ResNet",
            alike("conv1.weight", "layer1.0.conv1.weight"),
            same(*STEM, POOL) + IN_TIMM_BLOCK,
            heads=FC,
        ),
        Table(
            "ResNet with a deep stem",
            (("stem.0.weight", "conv1.0.weight"), ("layer1.0.conv1.weight", "layer1.0.conv1.weight")),
            DEEP_STEM + same(POOL) + IN_TIMM_BLOCK,
            heads=FC,
        ),
        *(_sk_table(*stem, conv) for stem in SK_STEMS for conv in (1, 2)),
        Table("VGG", VGG_SIGNS, same("features.{k}.{p}"), heads=VGG_HEADS),
        Table("HRNet", HRNET_SIGNS, same(*HRNET) + IN_TIMM_BLOCK, heads=HRNET_HEADS),
        Table(
            "ConvNeXt",
            CONVNEXT_SIGNS,
            CONVNEXT,
            heads=(
                Rule("norm3.{p}", "head.norm.{p}"),
                *same("head.pre_logits.{rest}"),
                Rule("fc.{p}", "head.fc.{p}"),
            ),
        ),
        Table(
            "ConvNeXt with its norm before the head",
            (*CONVNEXT_SIGNS, ("norm3.weight", "norm_pre.weight")),
            (*CONVNEXT, Rule("norm3.{p}", "norm_pre.{p}")),
            heads=(Rule("fc.{p}", "head.fc.{p}"),),
        ),
        *(Table("ResNetV2", signs, same(*RESNETV2), heads=same("head.fc.{p}")) for signs in RESNETV2_SIGNS),
        Table("GhostNet", GHOSTNET_SIGNS, same(*GHOSTNET), heads=GHOSTNET_HEADS),
        Table("GhostNetV3", (*GHOSTNET_V3_SIGNS, GHOSTNET_V3_NORM), same(*GHOSTNET), heads=GHOSTNET_HEADS),
        Table(
            "GhostNet of features_only",
            (
                ("conv_stem.weight", "conv_stem.weight"),
                ("blocks.0.0.ghost1.primary_conv.0.weight", "blocks_0.0.ghost1.primary_conv.0.weight"),
            ),
            (*same("conv_stem.{p}", "bn1.{p}"), Rule("blocks.{i}.{rest}", "blocks_{i}.{rest}")),
        ),
    ),
)
