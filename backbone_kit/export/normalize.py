"""Pictures prepared inside the net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checkpoint.preprocessing import Preprocessing


class Normalize(nn.Module):
    """Pixels from 0 to 255 in RGB, made what the weights expect: (x - mean) / std, in their order of channels.

    Args:
        wanted: How pictures were prepared for the weights.
        dtype: Of the result; the arithmetic is float32's.

    Shape:
        - Input: (N, 3, H, W), uint8
        - Output: (N, 3, H, W)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, wanted: Preprocessing, dtype: torch.dtype) -> None:
        super().__init__()
        self.swaps = wanted.channel_order == "BGR"
        self.dtype = dtype
        pixels = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), wanted.channel_order, range=255)
        for name, values in (("mean", wanted.like(pixels).mean), ("std", wanted.like(pixels).std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """The normalised pictures."""
        x = pixels.to(self.mean.dtype)
        x = x.flip(1) if self.swaps else x
        return ((x - self.mean) / self.std).to(self.dtype)
