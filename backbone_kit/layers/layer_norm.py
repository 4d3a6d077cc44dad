"""Layer normalisation of maps: each pixel over its channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .norm import NORM_LAYERS
from .tracing import channels_first


@NORM_LAYERS.register_module("LN2d")
class LayerNorm2d(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the channels of a map.

    Args:
        num_channels: Channels C of the map.
        eps: Added to the variance.
        elementwise_affine: Whether each channel has a learned factor and summand.
        bias: Whether it has the summand, where it has the factor.

    Shape:
        - Input and output: (N, C, H, W). The output lies in memory as `torch.channels_last` does, so that an input in
          that format is not copied, another one once.

    Source: Ba et al., "Layer Normalization", arXiv 1607.06450; as in Liu et al., "A ConvNet for the 2020s",
    arXiv 2201.03545, section 2.6.
    """

    def __init__(
        self, num_channels: int, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__(num_channels, eps=eps, elementwise_affine=elementwise_affine, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        pixels = x.permute(0, 2, 3, 1)
        return channels_first(F.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps))
