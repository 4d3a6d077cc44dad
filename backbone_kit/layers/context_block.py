"""The global context block of GCNet: one context vector for the whole map, added to it or multiplied with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .plugin import PLUGIN_LAYERS

FusionType = Literal["channel_add", "channel_mul"]


@PLUGIN_LAYERS.register_module()
class ContextBlock(nn.Module):
    """x · sigmoid(f(c)) + g(c), where c is the mean of the map and f and g are bottlenecks: 1x1, norm, ReLU, 1x1.

    Args:
        in_channels: Channels C of the map.
        ratio: Channels of the bottlenecks over C; C · ratio is rounded down.
        pooling_type: 'att': the mean has learned weights; 'avg': it is plain.
        fusion_types: 'channel_mul' for the factor f, 'channel_add' for the summand g, or both.

    Raises:
        ConfigError: C · ratio is less than 1, or an option is not among those above.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Cao et al., GCNet, arXiv 1904.11492, section 3.3.
    """

    _abbr_ = "context_block"

    def __init__(
        self,
        in_channels: int,
        ratio: float,
        pooling_type: Literal["att", "avg"] = "att",
        fusion_types: Sequence[FusionType] = ("channel_add",),
    ) -> None:
        super().__init__()
        planes = int(in_channels * ratio)
        if planes < 1:
            raise ConfigError(f"must leave 1 of in_channels (={in_channels}) at least, got {ratio}", ("ratio",))
        if pooling_type not in ("att", "avg"):
            raise ConfigError(f"must be 'att' or 'avg', got {pooling_type!r}", ("pooling_type",))
        if not fusion_types or not set(fusion_types) <= {"channel_add", "channel_mul"}:
            reason = f"must have 'channel_add', 'channel_mul' or both, got {fusion_types!r}"
            raise ConfigError(reason, ("fusion_types",))
        self.in_channels = in_channels
        self.conv_mask = nn.Conv2d(in_channels, 1, kernel_size=1) if pooling_type == "att" else None
        self.channel_add_conv = _bottleneck(in_channels, planes) if "channel_add" in fusion_types else None
        self.channel_mul_conv = _bottleneck(in_channels, planes) if "channel_mul" in fusion_types else None
        self.init_weights()

    def init_weights(self) -> None:
        """Starts 'channel_add' as the identity and 'channel_mul' as one half of it, whatever the context."""
        if self.conv_mask is not None:
            for parameter in self.conv_mask.parameters():
                nn.init.kaiming_normal_(parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
        for bottleneck in (self.channel_add_conv, self.channel_mul_conv):
            for parameter in bottleneck[-1].parameters() if bottleneck is not None else ():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled and shifted per channel; shape (N, C, H, W)."""
        context = self.context(x)
        out = x
        if self.channel_mul_conv is not None:
            out = out * torch.sigmoid(self.channel_mul_conv(context))
        if self.channel_add_conv is not None:
            out = out + self.channel_add_conv(context)
        return out

    def context(self, x: Tensor) -> Tensor:
        """The mean over all pixels, shape (N, C, 1, 1)."""
        if self.conv_mask is None:
            return x.mean((2, 3), keepdim=True)
        weights = self.conv_mask(x).flatten(2).softmax(-1)  # (N, 1, H·W)
        return torch.bmm(x.flatten(2), weights.mT).unsqueeze(-1)


def _bottleneck(channels: int, planes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, planes, kernel_size=1),
        nn.LayerNorm([planes, 1, 1]),
        nn.ReLU(inplace=True),
        nn.Conv2d(planes, channels, kernel_size=1),
    )
