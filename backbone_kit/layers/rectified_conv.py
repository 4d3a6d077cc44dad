"""Rectified convolution: near the border, where taps read padding, the others count for them."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .conv import CONV_LAYERS


@CONV_LAYERS.register_module("RFConv")
class RFConv2d(nn.Conv2d):
    """A convolution, bias included, times K / V at each pixel: V of its K taps read the map there, the others padding.

    Args:
        *args, **kwargs: As for `torch.nn.Conv2d`; `padding_mode` only 'zeros'.
        average_mode: Whether the factor is 1 / V, everywhere.
        window_area: Whether K is the area that the taps span, as the compiled original counts. That is the same at
            dilation 1; at dilation 2 it scales the inside of the map by 25/9 too, so that a net trained without
            dilation does not keep its function with it.

    Raises:
        ConfigError: `padding_mode` is not 'zeros', or `window_area` is given with `average_mode`, which has no K.

    Source: Zhang et al., ResNeSt, arXiv 2004.08955, code: option `rectified_conv`.

    Examples:
        >>> import torch
        >>> layer = RFConv2d(1, 1, 3, padding=1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> layer(torch.ones(1, 1, 4, 4)).unique().tolist()
        [9.0]
    """

    def __init__(self, *args: Any, average_mode: bool = False, window_area: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.padding_mode != "zeros":
            raise ConfigError(f"must be 'zeros': others leave no gap, got {self.padding_mode!r}", ("padding_mode",))
        if average_mode and window_area:
            raise ConfigError("has no effect with average_mode=True; remove it", ("window_area",))
        self.average_mode = average_mode
        self.window_area = window_area
        plain = self.kernel_size == (1, 1) if average_mode else not window_area and self.padding in ("valid", (0, 0))
        self._rectifies = not plain

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H', W')."""
        y = super().forward(x)
        return y * (self._factors(x, 2).unsqueeze(-1) * self._factors(x, 3)) if self._rectifies else y

    def _factors(self, x: Tensor, dim: int) -> Tensor:
        """What belongs to each row (`dim` 2) or column (3) of the output; their product is the pixel's factor."""
        taps, stride, dilation = (each[dim - 2] for each in (self.kernel_size, self.stride, self.dilation))
        padding = self.padding if isinstance(self.padding, str) else self.padding[dim - 2]
        inside, kernel = x.new_ones(1, 1, x.shape[dim]), x.new_ones(1, 1, taps)
        valid = F.conv1d(inside, kernel, None, stride, padding, dilation).flatten().clamp(min=1)
        if self.average_mode:
            return valid.reciprocal()
        return (dilation * (taps - 1) + 1 if self.window_area else taps) / valid

    def extra_repr(self) -> str:
        """What repr() shows."""
        shape: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{shape}, average_mode={self.average_mode}, window_area={self.window_area}"
