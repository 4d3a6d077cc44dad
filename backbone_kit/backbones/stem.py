"""Stems: what turns the picture into the first map, as named layers in the order in which they run."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ..errors import located
from ..layers import ActivationCfg, build_activation_layer, build_norm_layer
from .convs import build_conv
from .types import ConvCfg, NormCfg


def single_7x7(
    in_channels: int, channels: int, *, conv_cfg: ConvCfg | None, norm_cfg: NormCfg, act_cfg: ActivationCfg
) -> dict[str, nn.Module]:
    """One 7x7 convolution of stride 2, with norm and activation.

    Args:
        in_channels: Channels of the picture.
        channels: Channels of the map.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.
    """
    conv = build_conv(conv_cfg, in_channels, channels, 7, stride=2, padding=3)
    with located("norm_cfg"):
        name, norm = build_norm_layer(norm_cfg, channels, postfix=1)
    with located("act_cfg"):
        return {"conv1": conv, name: norm, "relu": build_activation_layer(act_cfg)}


def triple_3x3(
    in_channels: int, channels: int, *, conv_cfg: ConvCfg | None, norm_cfg: NormCfg, act_cfg: ActivationCfg
) -> dict[str, nn.Module]:
    """Three 3x3 convolutions with norms and activations, the first of stride 2, the first two half as wide.

    Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187,
    section 4.2, ResNet-C.
    """
    layers: list[nn.Module] = []
    widths = (in_channels, channels // 2, channels // 2, channels)
    for index, (before, after) in enumerate(pairwise(widths)):
        stride = 2 if index == 0 else 1
        layers.append(build_conv(conv_cfg, before, after, 3, stride=stride, padding=1))
        with located("norm_cfg"):
            layers.append(build_norm_layer(norm_cfg, after)[1])
        with located("act_cfg"):
            layers.append(build_activation_layer(act_cfg))
    return {"stem": nn.Sequential(*layers)}
