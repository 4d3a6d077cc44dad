"""The convolutions of a residual net: without bias, and with the key of their config in what they refuse."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import located
from ..layers import build_conv_layer
from .types import ConvCfg, DeformableCfg


def build_conv(conv_cfg: ConvCfg | None, *args: Any, **kwargs: Any) -> nn.Module:
    """A block's convolution, without bias; what is wrong with its config is told as `conv_cfg`."""
    with located("conv_cfg"):
        return build_conv_layer(conv_cfg, *args, bias=False, **kwargs)


def build_spatial_conv(
    conv_cfg: ConvCfg | None, dcn: DeformableCfg | None, in_channels: int, out_channels: int, stride: int, **kwargs: Any
) -> nn.Module:
    """A block's 3x3 convolution: `dcn`, unless there is none or it falls back to `conv_cfg` for its stride."""
    if dcn is None or (dcn.get("fallback_on_stride", False) and stride != 1):
        return build_conv(conv_cfg, in_channels, out_channels, 3, stride=stride, **kwargs)
    cfg = {key: value for key, value in dcn.items() if key != "fallback_on_stride"}
    with located("dcn"):
        return build_conv_layer(cfg, in_channels, out_channels, 3, stride=stride, bias=False, **kwargs)
