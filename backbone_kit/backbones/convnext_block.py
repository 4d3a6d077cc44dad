"""The block of ConvNeXt and ConvNeXt V2, and its layers, from the types that the net was given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import located
from ..layers import GRN, DropPath, build_activation_layer, build_conv_layer, build_norm_layer
from ..layers.tracing import channels_first
from ..recompute import recompute


class ConvNeXtBlock(nn.Module):
    """x + gamma · f(x), f = depthwise convolution, norm, 1x1 to four times the channels, activation, (GRN), 1x1 back.

    Args:
        channels: Channels C of the map.
        kernel_size: Of the depthwise convolution.
        use_grn: Whether there is a GRN.
        drop_path: Probability that f(x) is dropped for a picture while training.
        layer_scale_init_value: Start of gamma; 0: there is none.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg, norm_cfg, act_cfg, linear_pw_conv: As `ConvNeXt` has them.

    Source: arXiv 2201.03545, section 2 and figure 4; GRN: arXiv 2301.00808, figure 5.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int,
        use_grn: bool,
        drop_path: float,
        layer_scale_init_value: float,
        with_cp: bool,
        **types: Any,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        padding = kernel_size // 2
        self.depthwise_conv = build_conv(types, channels, channels, kernel_size, padding=padding, groups=channels)
        self.norm = build_norm(types, channels)
        self.pointwise_conv1 = _pointwise(types, channels, 4 * channels)
        self.act = build_act(types)
        self.grn = GRN(4 * channels) if use_grn else None
        self.pointwise_conv2 = _pointwise(types, 4 * channels, channels)
        self.layer_scale_init_value = layer_scale_init_value
        self.gamma = nn.Parameter(torch.empty(channels)) if layer_scale_init_value else None
        self.drop_path = DropPath(drop_path) if drop_path else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gamma at its start."""
        if self.gamma is not None:
            nn.init.constant_(self.gamma, self.layer_scale_init_value)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return recompute(self, self._sum, x) if self.with_cp else self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        y = self.act(self.pointwise_conv1(self.norm(self.depthwise_conv(x))))
        if self.grn is not None:
            y = self.grn(y)
        y = self.pointwise_conv2(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        return x + y if self.gamma is None else torch.addcmul(x, y, self.gamma.view(-1, 1, 1))


class PointwiseLinear(nn.Linear):
    """A 1x1 convolution with the weights of a linear layer, (out, in); a map in channels_last is not copied."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_features, H, W) to (N, out_features, H, W)."""
        return channels_first(super().forward(x.permute(0, 2, 3, 1)))


def build_conv(types: dict[str, Any], *args: Any, **kwargs: Any) -> nn.Module:
    """A convolution of the type `conv_cfg`."""
    with located("conv_cfg"):
        return build_conv_layer(types["conv_cfg"], *args, **kwargs)


def build_norm(types: dict[str, Any], channels: int) -> nn.Module:
    """A norm of the type `norm_cfg`."""
    with located("norm_cfg"):
        return build_norm_layer(types["norm_cfg"], channels)[1]


def build_act(types: dict[str, Any]) -> nn.Module:
    """An activation of the type `act_cfg`."""
    with located("act_cfg"):
        return build_activation_layer(types["act_cfg"])


def _pointwise(types: dict[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    linear = types["linear_pw_conv"]
    return PointwiseLinear(in_channels, out_channels) if linear else build_conv(types, in_channels, out_channels, 1)
