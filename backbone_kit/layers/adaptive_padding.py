"""A convolution that pads by the size of its input, as TensorFlow's 'SAME' does."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import CONV_LAYERS


@CONV_LAYERS.register_module()
class Conv2dAdaptivePadding(nn.Conv2d):
    """A convolution whose output is the size of its input over the stride, rounded up.

    What padding that takes depends on the size; an odd pixel of it goes to the right and to the bottom.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias: As for `torch.nn.Conv2d`.
        padding: Without effect; blocks pass it to any convolution.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, out_channels, ceil(H / stride), ceil(W / stride))

    Source: TensorFlow, `tf.nn.convolution`, padding 'SAME'; MMCV has it under this name.

    Examples:
        >>> import torch
        >>> layer = Conv2dAdaptivePadding(3, 8, kernel_size=3, stride=2)
        >>> layer(torch.ones(1, 3, 8, 7)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        spans = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation)]
        if self.stride == (1, 1) and not any(span % 2 for span in spans):  # the same for every size, and on both sides
            self.padding = (spans[0] // 2, spans[1] // 2)
            spans = [0, 0]
        self._spans = spans

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        if any(self._spans):
            height, width = (self._missing(x, axis) for axis in (0, 1))
            x = F.pad(x, [width // 2, width - width // 2, height // 2, height - height // 2])
        y: Tensor = super().forward(x)
        return y

    def _missing(self, x: Tensor, axis: int) -> Any:
        """How many pixels the last window lacks."""
        span, stride = self._spans[axis], self.stride[axis]
        missing = span - (x.shape[axis + 2] - 1) % stride
        return torch.sym_max(missing, 0) if stride > span + 1 else missing
