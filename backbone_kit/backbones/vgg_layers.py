"""What VGG and SSD's VGG are made of: 3x3 convolutions with activations, numbered through in `features`.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv 1409.1556,
table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg, build_activation_layer, build_conv_layer, build_norm_layer
from ..layers.max_pool import CeilMaxPool2d
from .residual import RELU
from .types import ConvCfg, NormCfg

CHANNELS = (64, 128, 256, 512, 512)
DEPTHS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def num_convs(depth: int) -> tuple[int, ...]:
    """Convolutions of each stage.

    Raises:
        ConfigError: There is no VGG of this depth.
    """
    if depth not in DEPTHS:
        raise ConfigError(f"must be one of {', '.join(map(str, DEPTHS))}, got {depth!r}", ("depth",))
    return DEPTHS[depth]


def conv_layers(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    dilation: int = 1,
    *,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg | None,
    act_cfg: ActivationCfg | None,
) -> list[nn.Module]:
    """A convolution with bias that keeps the size, its norm unless `norm_cfg` is None, and its activation."""
    padding = dilation * (kernel_size // 2)
    with located("conv_cfg"):
        layers = [
            build_conv_layer(conv_cfg, in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
        ]
    if norm_cfg is not None:
        with located("norm_cfg"):
            layers.append(build_norm_layer(norm_cfg, out_channels)[1])
    with located("act_cfg"):
        return [*layers, build_activation_layer(RELU if act_cfg is None else act_cfg)]


def max_pool(ceil_mode: bool) -> nn.Module:
    """The pool between two stages, which rounds down, or up with `ceil_mode`."""
    return CeilMaxPool2d() if ceil_mode else nn.MaxPool2d(2, 2)


def numbered(layers: Sequence[nn.Module], first: int) -> dict[str, nn.Module]:
    """Layers by their names in the state dict, from `features.<first>` on."""
    return {f"features.{number}": layer for number, layer in enumerate(layers, start=first)}
