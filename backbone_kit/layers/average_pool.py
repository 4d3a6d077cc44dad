"""The average pools of a ResNet-D shortcut."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CeilAvgPool2d(nn.AvgPool2d):
    """Means over windows of `stride` x `stride`; a window that hangs over the edge is the mean of what is inside.

    Args:
        stride: Side and stride of the windows in pixels.

    Shape:
        (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, stride: int) -> None:
        super().__init__(stride, stride, ceil_mode=True, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The means; under a compiler without `ceil_mode`, whose size rule ties H and W to multiples of 2."""
        if self.stride == 1:  # a stage without a stride has it for its place in the keys
            return x
        if self.stride == 2 and torch.compiler.is_compiling():  # a repeated edge leaves a half window's mean as it is
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 2)
        return super().forward(x)


class SameAvgPool2d(nn.Module):
    """Means over windows of 2 x 2 at stride 1; beyond the right and lower edge there are zeros.

    Shape:
        (N, C, H, W) to (N, C, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
