"""The convolutional block attention module: a gate for every channel, then one for every pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError, located
from .activation import ActivationCfg, build_activation_layer
from .channels import reduced_channels
from .conv_module import RELU, ConvModule
from .norm import NormCfg
from .plugin import PLUGIN_LAYERS
from .se_layer import SIGMOID

BN: NormCfg = {"type": "BN"}


@PLUGIN_LAYERS.register_module(("CBAM", "cbam"))
class CBAM(nn.Module):
    """x · channel(x), and that times spatial of it; arguments and keys as timm's `cbam`.

    Args:
        in_channels: Channels C of the map.
        rd_ratio: Hidden channels of the channel gate over C, before they are rounded.
        rd_channels: Those channels; None: C · rd_ratio, rounded to a multiple of `rd_divisor`.
        rd_divisor: What they are a multiple of.
        spatial_kernel_size: Side of the spatial gate's kernel, odd.
        mlp_bias: Whether the convolutions of the channel gate have a bias.
        norm_cfg: Type of the spatial gate's norm.
        act_cfg: Type of the channel gate's activation.
        gate_cfg: Type of both gates.

    Raises:
        ConfigError: `spatial_kernel_size` is even, or a number is not positive.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Woo et al., CBAM, arXiv 1807.06521, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 1,
        spatial_kernel_size: int = 7,
        mlp_bias: bool = False,
        norm_cfg: NormCfg | None = BN,
        act_cfg: ActivationCfg = RELU,
        gate_cfg: ActivationCfg = SIGMOID,
    ) -> None:
        super().__init__()
        if spatial_kernel_size < 1 or spatial_kernel_size % 2 == 0:
            raise ConfigError(f"must be odd and positive, got {spatial_kernel_size}", ("spatial_kernel_size",))
        hidden = reduced_channels(in_channels, rd_ratio, rd_channels, rd_divisor, round_limit=0)
        self.channel = ChannelGate(in_channels, hidden, mlp_bias, act_cfg, gate_cfg)
        self.spatial = SpatialGate(spatial_kernel_size, norm_cfg, gate_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per channel and per pixel; shape (N, C, H, W)."""
        y: Tensor = self.spatial(self.channel(x))
        return y


class ChannelGate(nn.Module):
    """x · gate(f(mean(x)) + f(max(x))), f = 1x1, activation, 1x1; means and maxima over all pixels.

    Args:
        channels: Channels C of the map.
        hidden: Channels inside of f.
        bias: Whether the convolutions have one.
        act_cfg, gate_cfg: Types of activation and gate.
    """

    def __init__(self, channels: int, hidden: int, bias: bool, act_cfg: ActivationCfg, gate_cfg: ActivationCfg) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, kernel_size=1, bias=bias)
        self.fc2 = nn.Conv2d(hidden, channels, kernel_size=1, bias=bias)
        with located("act_cfg"):
            self.act = build_activation_layer(act_cfg)
        with located("gate_cfg"):
            self.gate = build_activation_layer(gate_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per channel; shape (N, C, H, W)."""
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.fc2(self.act(self.fc1(mean))) + self.fc2(self.act(self.fc1(most))))
        return x * gate


class SpatialGate(nn.Module):
    """x · gate(norm(w * [mean(x), max(x)])), with a kernel w for two maps: mean and maximum over the channels.

    Args:
        kernel_size: Side of the kernel, odd.
        norm_cfg: Type of the norm, None for none.
        gate_cfg: Type of the gate.
    """

    def __init__(self, kernel_size: int, norm_cfg: NormCfg | None, gate_cfg: ActivationCfg) -> None:
        super().__init__()
        self.conv = ConvModule(2, 1, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg, act_cfg=None)
        with located("gate_cfg"):
            self.gate = build_activation_layer(gate_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per pixel; shape (N, C, H, W)."""
        gate: Tensor = self.gate(self.conv(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)))
        return x * gate
