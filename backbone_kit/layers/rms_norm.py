"""Norms of maps that divide each pixel by how large its channels are, and subtract nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .norm import NORM_LAYERS


class _Scaled(nn.Module, ABC):
    """x / sqrt(size(x) + eps) · weight, in float32 at least.

    Args:
        num_features: Channels C of the map.
        eps: Added to the size.
    """

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(num_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The weight at 1."""
        nn.init.ones_(self.weight)

    @abstractmethod
    def size(self, x: Tensor) -> Tensor:
        """How large each pixel is, squared, (N, 1, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = (precise * torch.rsqrt(self.size(precise) + self.eps)).to(x.dtype)
        return scaled * self.weight.view(-1, 1, 1)

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"{self.num_features}, eps={self.eps}"


@NORM_LAYERS.register_module()
class RMSNorm2d(_Scaled):
    """Each pixel over the root of the mean square of its channels, times a weight for each channel.

    Args:
        num_features: Channels C of the map.
        eps: Added to the mean square.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467, equation 4.
    """

    _abbr_ = "rms"

    def size(self, x: Tensor) -> Tensor:
        """The mean square."""
        return x.square().mean(1, keepdim=True)


@NORM_LAYERS.register_module()
class SimpleNorm2d(_Scaled):
    """Each pixel over the standard deviation of its channels, unbiased, times a weight for each channel.

    Args:
        num_features: Channels C of the map.
        eps: Added to the variance.

    Shape:
        - Input and output: (N, C, H, W)

    Source: timm, which has it in its smallest ConvNeXts.
    """

    _abbr_ = "simple_norm"

    def size(self, x: Tensor) -> Tensor:
        """The unbiased variance."""
        return x.var(1, keepdim=True)
