"""Maps at several resolutions side by side: `Branches` that keep apart, `Fusion` that joins, `Transition` to one more.

They take and give lists of maps (N, C_i, H / 2**i, W / 2**i), the finest first, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import located
from ..layers import ActivationCfg, build_activation_layer, build_norm_layer
from ..layers.conv_norm import Chain
from ..layers.tracing import is_exporting
from .convs import build_conv
from .stage import build_downsample
from .types import ConvCfg, NormCfg

UpsampleMode = Literal["nearest", "bilinear"]


class Branches(nn.ModuleList):
    """One module for each map, by itself."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Each map through its own module."""
        return [branch(x) for branch, x in zip(self, maps)]


class Fusion(nn.Module):
    """The sum of all maps at the resolution of one of them, then an activation; one map alone stays as it is.

    Finer maps come down by 3x3 convolutions of stride 2, one for each halving; coarser ones get its channels by a 1x1
    convolution and are enlarged to its size.

    Args:
        target: The index of that map.
        channels: Channels of all maps.
        upsample_mode: How coarser maps are enlarged. 'nearest' goes to the target's size at once; 'bilinear' first by
            the power of two between them, then, where that is not the target's size, to that.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.
    """

    def __init__(
        self,
        target: int,
        channels: Sequence[int],
        *,
        upsample_mode: UpsampleMode,
        conv_cfg: ConvCfg | None,
        norm_cfg: NormCfg,
        act_cfg: ActivationCfg,
    ) -> None:
        super().__init__()
        self.target, self.upsample_mode = target, upsample_mode
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        for index, width in enumerate(channels):
            layer: nn.Module = nn.Identity()
            if index > target:
                layer = build_downsample(width, channels[target], 1, avg_down=False, **types)
            elif index < target:
                widths = [width] * (target - index - 1)
                halvings = [conv_3x3(width, width, stride=2, act_cfg=act_cfg, **types) for width in widths]
                layer = nn.Sequential(*halvings, conv_3x3(width, channels[target], stride=2, act_cfg=None, **types))
            self.add_module(str(index), layer)
        with located("act_cfg"):
            self.relu = build_activation_layer(act_cfg) if len(channels) > 1 else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (N, C_i, H_i, W_i) to one (N, C, H, W), those of the target."""
        own = maps[self.target]
        size, y = own.shape[-2:], None
        for index, x in enumerate(maps):
            if index == self.target:
                continue
            z = getattr(self, str(index))(x)
            if index > self.target:
                z = self._enlarged(z, 2 ** (index - self.target), size)
            y = own + z if y is None else y.add_(z)
        out: Tensor = self.relu(own if y is None else y)
        return out

    def _enlarged(self, x: Tensor, factor: int, size: torch.Size) -> Tensor:
        if self.upsample_mode == "nearest":
            return F.interpolate(x, size, mode="nearest")
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        if not is_exporting() and x.shape[-2:] == size:
            return x
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


class Fusions(nn.ModuleList):
    """Every `Fusion` of the same maps."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map for each."""
        return [fusion(maps) for fusion in self]


class Transition(Branches):
    """Maps with other channels, and further ones at half the resolution of the last.

    A map whose channels are to change goes through a 3x3 convolution; a further one comes from the last by 3x3
    convolutions of stride 2.

    Args:
        before: Channels of the maps that are there.
        after: Channels of the maps that are to be there.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.
    """

    def __init__(
        self,
        before: Sequence[int],
        after: Sequence[int],
        *,
        conv_cfg: ConvCfg | None,
        norm_cfg: NormCfg,
        act_cfg: ActivationCfg,
    ) -> None:
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        last = len(before) - 1
        layers: list[nn.Module] = []
        for index, width in enumerate(after):
            if index > last:
                halvings = [conv_3x3(before[last], before[last], stride=2, **types) for _ in range(index - last - 1)]
                layers.append(nn.Sequential(*halvings, conv_3x3(before[last], width, stride=2, **types)))
            else:
                same = before[index] == width
                layers.append(nn.Identity() if same else conv_3x3(before[index], width, stride=1, **types))
        super().__init__(layers)

    def forward(self, maps: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """The maps that there were, or the only one, to those that are to be there."""
        maps = [maps] if isinstance(maps, Tensor) else [*maps]
        return super().forward(maps + [maps[-1]] * (len(self) - len(maps)))


def conv_3x3(
    in_channels: int,
    out_channels: int,
    *,
    stride: int,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
    act_cfg: ActivationCfg | None,
) -> nn.Sequential:
    """A 3x3 convolution with its norm and, unless `act_cfg` is None, its activation."""
    layers = [build_conv(conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1)]
    with located("norm_cfg"):
        layers.append(build_norm_layer(norm_cfg, out_channels)[1])
    if act_cfg is not None:
        with located("act_cfg"):
            layers.append(build_activation_layer(act_cfg))
    return Chain(*layers)
