"""Ghost modules: some channels from a convolution, the others from those by cheap depthwise convolutions.

Source: Han et al., GhostNet: More Features from Cheap Operations, arXiv 1911.11907, section 3.1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..errors import ConfigError, located
from .activation import ActivationCfg, build_activation_layer
from .conv import CONV_LAYERS, ConvCfg, build_conv_layer
from .conv_norm import Chain
from .norm import NormCfg, build_norm_layer


class GhostMaps(nn.Module, ABC):
    """Maps and their ghosts, side by side. A subclass builds the layers and says which of them make which.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.

    Attributes:
        short_conv: The gate of the output, None for none.
    """

    short_conv: DFCAttention | None

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels

    @abstractmethod
    def primary(self, x: Tensor) -> Tensor:
        """The maps that a convolution computes."""

    @abstractmethod
    def cheap(self, primary: Tensor) -> Tensor:
        """Their ghosts; as many as are missing, or more."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H', W')."""
        primary = self.primary(x)
        missing = self.out_channels - primary.shape[1]
        cheap = self.cheap(primary)
        out = torch.cat([primary, cheap if cheap.shape[1] == missing else cheap[:, :missing]], dim=1)
        return out if self.short_conv is None else out * self.short_conv(x, out)


@CONV_LAYERS.register_module("Ghost")
class GhostModule(GhostMaps):
    """A convolution to `1 / ratio` of the channels, and depthwise ones from those to the rest; a drop-in for Conv2d.

    As a block's convolution it is linear: the block's own norm and activation follow. With `norm_cfg` and `act_cfg`,
    both of its convolutions have a norm and an activation of their own, as in a GhostNet. Keys: `primary_conv`,
    `cheap_operation` and, with attention, `short_conv`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size, stride, padding, groups: Of the first convolution.
        dilation: Of all convolutions with a kernel of more than one pixel.
        bias: Whether both convolutions have one.
        ratio: Channels of the output over those of the first convolution, 2 or more; what does not divide is rounded
            up, and what the depthwise convolutions then give too much is left out.
        dw_size: Side of the depthwise kernels in pixels, odd.
        attention: Whether the output is gated by the attention of GhostNetV2, `DFCAttention`.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_cfg: Type of the norms behind them; None: none.
        act_cfg: Type of the activations behind those; None: none.

    Raises:
        ConfigError: A number is out of range, or `groups` does not divide the channels of the first convolution.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, out_channels, H', W') as `torch.nn.Conv2d` gives them

    Source: arXiv 1911.11907, section 3.1, equations 2 and 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        ratio: int = 2,
        dw_size: int = 3,
        attention: bool = False,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
    ) -> None:
        if ratio < 2:
            raise ConfigError(f"must be 2 or more, got {ratio}; 1 is the plain convolution", ("ratio",))
        if dw_size < 1 or dw_size % 2 == 0:
            raise ConfigError(f"must be odd and positive, got {dw_size}", ("dw_size",))
        channels = -(-out_channels // ratio)
        if channels % groups:
            raise ConfigError(f"must divide the {channels} channels before the ghosts, got {groups}", ("groups",))
        shape: dict[str, Any] = dict(
            kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        super().__init__(in_channels, out_channels)
        cheap: dict[str, Any] = dict(kernel_size=dw_size, padding=same_padding(dw_size, dilation), dilation=dilation)
        self.primary_conv = Chain(
            *conv_norm(in_channels, channels, bias=bias, **shape, **types),
            *_activation(act_cfg),
        )
        self.cheap_operation = Chain(
            *conv_norm(channels, channels * (ratio - 1), bias=bias, groups=channels, **cheap, **types),
            *_activation(act_cfg),
        )
        self.short_conv = DFCAttention(in_channels, out_channels, **shape, **types) if attention else None

    def primary(self, x: Tensor) -> Tensor:
        """The maps that a convolution computes."""
        y: Tensor = self.primary_conv(x)
        return y

    def cheap(self, primary: Tensor) -> Tensor:
        """Their ghosts."""
        y: Tensor = self.cheap_operation(primary)
        return y


class DFCAttention(Chain):
    """The gate of GhostNetV2: fully connected layers along rows and columns, as 1x5 and 5x1 depthwise convolutions.

    It looks at means over windows of 2x2 pixels, and is as large as the map that it gates by repetition.

    Args:
        in_channels: Channels of the map that it looks at.
        out_channels: Channels of the map that it gates.
        kernel_size, stride, padding, groups: Of the first convolution.
        dilation: Of the map. Its windows grow with it, so that they are as large as before in the picture, and so its
            convolutions are not dilated.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_cfg: Type of the norms behind them; None: none.

    Source: Tang et al., GhostNetV2: Enhance Cheap Operation with Long-Range Attention, arXiv 2211.12905, section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        *,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
    ) -> None:
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        first: dict[str, Any] = dict(kernel_size=kernel_size, stride=stride, padding=padding, groups=groups)
        super().__init__(
            *conv_norm(in_channels, out_channels, **first, **types),
            *conv_norm(out_channels, out_channels, kernel_size=(1, 5), padding=(0, 2), groups=out_channels, **types),
            *conv_norm(out_channels, out_channels, kernel_size=(5, 1), padding=(2, 0), groups=out_channels, **types),
        )
        self.window = tuple(2 * d for d in _pair(dilation))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:  # type: ignore[override]
        """The gate for `out`, from the map `x` that `out` was made of; shaped as `out`."""
        windows = [min(side, size) for side, size in zip(self.window, x.shape[-2:])]  # a map may be smaller than one
        gate: Tensor = super().forward(F.avg_pool2d(x, windows))
        return F.interpolate(gate.sigmoid(), size=out.shape[-2:], mode="nearest")


def conv_norm(
    *args: Any, bias: bool = False, conv_cfg: ConvCfg | None, norm_cfg: NormCfg | None, **kwargs: Any
) -> list[nn.Module]:
    """A convolution and, where there is a `norm_cfg`, its norm."""
    with located("conv_cfg"):
        conv = build_conv_layer(conv_cfg, *args, bias=bias, **kwargs)
    if norm_cfg is None:
        return [conv]
    with located("norm_cfg"):
        return [conv, build_norm_layer(norm_cfg, args[1])[1]]


def same_padding(kernel_size: int, dilation: int | tuple[int, int]) -> tuple[int, ...]:
    """The padding with which a convolution of stride 1 keeps the size of a map."""
    return tuple(kernel_size // 2 * d for d in _pair(dilation))


def _activation(act_cfg: ActivationCfg | None) -> list[nn.Module]:
    with located("act_cfg"):
        return [] if act_cfg is None else [build_activation_layer(act_cfg)]
