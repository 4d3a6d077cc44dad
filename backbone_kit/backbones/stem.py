"""Stems: what turns the picture into the first map, as layers in the order in which they run; and the pool behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg, build_activation_layer, build_norm_layer
from ..layers.conv_norm import Chain
from .convs import build_conv
from .ranges import check_range
from .types import ConvCfg, NormCfg


def stem_widths(
    base_channels: int, stem_channels: int | None, stem_width: int | None, stem_type: str | None, deep_stem: bool
) -> tuple[int, ...]:
    """Channels of a stem's maps, three of a deep one, from the arguments of `ResNet`.

    Raises:
        ConfigError: Two of them contradict each other, or one is out of range.
    """
    if deep_stem and stem_type == "":
        raise ConfigError("'' is the 7x7, which deep_stem=True replaces; remove one of them", ("stem_type",))
    deep = deep_stem or bool(stem_type)
    if stem_width is not None:
        if not deep:
            raise ConfigError("is for deep stems; set stem_type='deep', or give stem_channels", ("stem_width",))
        if stem_channels not in (None, 2 * stem_width):
            raise ConfigError(f"means stem_channels={2 * stem_width}, which is {stem_channels}", ("stem_width",))
        stem_channels = 2 * stem_width
    channels = base_channels if stem_channels is None else stem_channels
    check_range("stem_channels", channels, 1 if not deep else 2 if stem_type != "deep_tiered" else 8)
    width = channels // 2
    return (channels,) if not deep else (3 * (width // 4) if stem_type == "deep_tiered" else width, width, channels)


def single_conv(
    in_channels: int,
    widths: Sequence[int],
    *,
    kernel_size: int = 7,
    stride: int = 2,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
    act_cfg: ActivationCfg,
) -> dict[str, nn.Module]:
    """One convolution, with norm and activation.

    Args:
        in_channels: Channels of the picture.
        widths: Channels of the map, alone.
        kernel_size, stride: Of the convolution.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.
    """
    (channels,) = widths
    conv = build_conv(conv_cfg, in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2)
    with located("norm_cfg"):
        name, norm = build_norm_layer(norm_cfg, channels, postfix=1)
    with located("act_cfg"):
        return {"conv1": conv, name: norm, "relu": build_activation_layer(act_cfg)}


def triple_3x3(
    in_channels: int,
    widths: Sequence[int],
    *,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
    act_cfg: ActivationCfg,
) -> dict[str, nn.Module]:
    """Three 3x3 convolutions with norms and activations, the first of stride 2.

    Args:
        in_channels: Channels of the picture.
        widths: Channels of the three maps.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.

    Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187,
    section 4.2, ResNet-C.
    """
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise((in_channels, *widths))):
        stride = 2 if index == 0 else 1
        layers.append(build_conv(conv_cfg, before, after, 3, stride=stride, padding=1))
        with located("norm_cfg"):
            layers.append(build_norm_layer(norm_cfg, after)[1])
        with located("act_cfg"):
            layers.append(build_activation_layer(act_cfg))
    return {"stem": Chain(*layers)}


def max_pool(channels: int, anti_alias: Callable[[int, int], nn.Module] | None = None) -> nn.Module:
    """The pool behind a stem, of stride 2; with `anti_alias`, that has the stride, and is all if it is an average."""
    if anti_alias is None:
        return nn.MaxPool2d(3, stride=2, padding=1)
    pool = anti_alias(channels, 2)
    return pool if isinstance(pool, nn.AvgPool2d) else nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), pool)


def pool_conv(
    channels: int,
    anti_alias: Callable[[int, int], nn.Module] | None = None,
    *,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
    act_cfg: ActivationCfg,
) -> nn.Module:
    """A 3x3 convolution of stride 2 with norm and activation, in place of the pool behind a stem.

    Source: Bello et al., "Revisiting ResNets: Improved Training and Scaling Strategies", arXiv 2103.07579, section 4.
    """
    conv = build_conv(conv_cfg, channels, channels, 3, stride=2 if anti_alias is None else 1, padding=1)
    pools = [] if anti_alias is None else [anti_alias(channels, 2)]
    with located("norm_cfg"):
        norm = build_norm_layer(norm_cfg, channels)[1]
    with located("act_cfg"):
        return Chain(conv, *pools, norm, build_activation_layer(act_cfg))
