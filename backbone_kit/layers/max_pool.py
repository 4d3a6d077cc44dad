"""A max pool that rounds up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CeilMaxPool2d(nn.MaxPool2d):
    """Maxima over windows of 2 x 2; a window that hangs over the edge is the maximum of what is inside.

    Shape:
        (N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2)).
    """

    def __init__(self) -> None:
        super().__init__(2, 2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """The maxima; under a compiler without `ceil_mode`, whose size rule ties H and W to multiples of 2."""
        compiling = torch.compiler.is_compiling()
        if compiling:  # a repeated edge leaves the maximum of a half window as it is
            x = F.pad(x, (0, 1, 0, 1), mode="replicate")
        y: Tensor = F.max_pool2d(x, 2, 2, ceil_mode=not compiling)
        return y
