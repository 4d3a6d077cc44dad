"""The Ghost module of GhostNetV3: several branches in the place of each convolution, until they are merged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import located
from .activation import ActivationCfg, build_activation_layer
from .branches import build_branch, merged_branches, sum_of_branches
from .conv import ConvCfg
from .conv_norm import Chain
from .ghost import DFCAttention, GhostMaps, GhostModule, same_padding
from .norm import NormCfg, build_norm_layer

NUM_BRANCHES = 3


class GhostBranches(GhostMaps):
    """A Ghost module, 1x1 and depthwise, with three branches a convolution; a depthwise one has a 1x1 and a norm more.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, even.
        dw_size: Side of the depthwise kernels in pixels, odd.
        dilation: Of the depthwise convolutions.
        attention: Whether the output is gated by `DFCAttention`.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_cfg: Type of the norms behind them.
        act_cfg: Type of the activation behind each sum of branches; None: none.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, out_channels, H, W)

    Source: Liu et al., GhostNetV3: Exploring the Training Strategies for Compact Models, arXiv 2404.11202, section 3.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dw_size: int = 3,
        dilation: int = 1,
        attention: bool = False,
        conv_cfg: ConvCfg | None,
        norm_cfg: NormCfg,
        act_cfg: ActivationCfg | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels)
        channels = out_channels // 2
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        spatial: dict[str, Any] = dict(
            kernel_size=dw_size, padding=same_padding(dw_size, dilation), dilation=dilation, groups=channels
        )
        self.primary_rpr_conv = nn.ModuleList(
            build_branch(in_channels, channels, kernel_size=1, **types) for _ in range(NUM_BRANCHES)
        )
        with located("norm_cfg"):
            self.cheap_rpr_skip = build_norm_layer(norm_cfg, channels)[1]
        self.cheap_rpr_conv = nn.ModuleList(
            build_branch(channels, channels, **spatial, **types) for _ in range(NUM_BRANCHES)
        )
        self.cheap_rpr_scale = build_branch(channels, channels, kernel_size=1, groups=channels, **types)
        with located("act_cfg"):
            self.primary_activation, self.cheap_activation = (
                nn.Identity() if act_cfg is None else build_activation_layer(act_cfg) for _ in range(2)
            )
        self.short_conv = DFCAttention(in_channels, out_channels, dilation=dilation, **types) if attention else None

    def primary(self, x: Tensor) -> Tensor:
        """The maps that 1x1 convolutions compute."""
        y: Tensor = self.primary_activation(sum_of_branches(self.primary_rpr_conv, x))
        return y

    def cheap(self, primary: Tensor) -> Tensor:
        """Their ghosts."""
        y: Tensor = self.cheap_activation(sum_of_branches(self._cheap_branches(), primary))
        return y

    def merged(self) -> GhostModule:
        """A Ghost module that computes what this one does in eval mode; what is not merged is in both.

        Raises:
            ConfigError: A convolution or a norm cannot be merged.
        """
        with torch.device("meta"):
            module = GhostModule(self.in_channels, self.out_channels, 1)
        module.primary_conv = Chain(merged_branches(self.primary_rpr_conv), self.primary_activation)
        module.cheap_operation = Chain(merged_branches(self._cheap_branches()), self.cheap_activation)
        module.short_conv = self.short_conv
        for new in (module, module.primary_conv, module.cheap_operation):
            new.training = self.training
        return module

    def _cheap_branches(self) -> list[nn.Module]:
        return [self.cheap_rpr_scale, self.cheap_rpr_skip, *self.cheap_rpr_conv]
