"""Switchable atrous convolution: each pixel chooses between a dilation and three times that."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .conv import CONV_LAYERS
from .conv_ws import ConvAWS2d
from .deform_conv import deform_conv2d
from .tracing import is_exporting

WIDER = 3
"""How many times the dilation of the second convolution is that of the first."""


@CONV_LAYERS.register_module("SAC")
class SAConv2d(ConvAWS2d):
    """S(x) · conv(x, w, d) + (1 - S(x)) · conv(x, w + Δw, 3d), between two contexts that are added.

    w is `ConvAWS2d`'s, from the parameter `weight`, and Δw the parameter `weight_diff`. S is a 5x5 mean (the map
    reflected at its edges) and a 1x1 convolution to one channel; a context is the whole mean and a 1x1 convolution.
    After any initialisation S is 1, and the contexts, Δw and the offsets 0: the layer is a `ConvAWS2d`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As for `torch.nn.Conv2d`. The
            padding must keep the size, or two dilations would give two sizes. A bias is added to the sum.
        use_deform: Whether both convolutions are deformable, each with offsets of its own from the 5x5 means.

    Raises:
        ConfigError: `padding` is not dilation · (kernel_size - 1) / 2 on both axes.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, out_channels, H / stride, W / stride), rounded up

    Source: Qiao et al., DetectoRS, arXiv 2006.02334, section 4 and figure 4.
    """

    brings_new: ClassVar[tuple[str, ...]] = (
        "weight_diff",
        "switch",
        "pre_context",
        "post_context",
        "offset_s",
        "offset_l",
    )

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
        use_deform: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        reach = [spacing * (side - 1) for spacing, side in zip(self.dilation, self.kernel_size)]
        if [2 * int(pixels) for pixels in self.padding] != reach:
            wanted = "dilation · (kernel_size - 1) / 2, so that maps of two dilations have one size"
            raise ConfigError(f"must be {wanted}; got {padding}", ("padding",))
        self.use_deform = use_deform
        self.weight_diff = nn.Parameter(torch.empty_like(self.weight))
        self.switch = nn.Conv2d(in_channels, 1, 1, stride)
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1)
        if use_deform:
            moves = 2 * self.kernel_size[0] * self.kernel_size[1]
            self.offset_s = nn.Conv2d(in_channels, moves, 3, stride, padding=1)
            self.offset_l = nn.Conv2d(in_channels, moves, 3, stride, padding=1)
        self.init_weights()

    def init_weights(self) -> None:
        """Puts all that a plain convolution has not to where it is without effect."""
        for name in self.brings_new:
            new = getattr(self, name, None)
            for parameter in [new] if isinstance(new, nn.Parameter) else new.parameters() if new is not None else ():
                nn.init.zeros_(parameter)
        nn.init.ones_(self.switch.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        x = x + self.pre_context(x.mean((2, 3), keepdim=True))
        around = F.avg_pool2d(_reflected(x, 2), 5, stride=1)
        weight = self.standardized_weight()
        near = self._dilated(x, weight, 1, self.offset_s(around) if self.use_deform else None)
        far = self._dilated(x, weight + self.weight_diff, WIDER, self.offset_l(around) if self.use_deform else None)
        out = far + self.switch(around) * (near - far)
        if self.bias is not None:
            out = out + self.bias.view(-1, 1, 1)
        y: Tensor = out + self.post_context(out.mean((2, 3), keepdim=True))
        return y

    def _dilated(self, x: Tensor, weight: Tensor, times: int, offset: Tensor | None) -> Tensor:
        """The convolution without bias, its dilation and padding `times` as large."""
        padding = tuple(int(pixels) * times for pixels in self.padding)
        dilation = tuple(spacing * times for spacing in self.dilation)
        if offset is None:
            return F.conv2d(x, weight, None, self.stride, padding, dilation, self.groups)
        return deform_conv2d(x, offset, weight, None, self.stride, padding, dilation)


def _reflected(x: Tensor, margin: int) -> Tensor:
    """The map reflected at its edges, which are not repeated; back and forth where it is no larger than the margin."""
    if not is_exporting() and min(x.shape[2:]) > margin:
        return F.pad(x, (margin,) * 4, mode="reflect")
    for axis in (2, 3):
        last = x.shape[axis] - 1
        place = torch.arange(-margin, last + margin + 1, device=x.device).abs()
        x = x.index_select(axis, (last - (last - place).abs()).abs().clamp(max=last))  # at margin 2 enough for all
    return x
