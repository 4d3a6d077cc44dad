"""Convolutions with standardised weights.

Source: Qiao et al., Micro-Batch Training with Batch-Channel Normalization and Weight Standardization, arXiv:1903.10520;
the adaptive form: Qiao et al., DetectoRS, arXiv:2006.02334, section 4.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import CONV_LAYERS


class StandardizedConv2d(nn.Conv2d, ABC):
    """A 2-d convolution whose weight is computed anew in every forward; takes what `torch.nn.Conv2d` takes."""

    @abstractmethod
    def standardized_weight(self) -> Tensor:
        """The weight that the convolution uses, shaped as the parameter `weight`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H', W')."""
        y: Tensor = self._conv_forward(x, self.standardized_weight(), self.bias)
        return y


@CONV_LAYERS.register_module("ConvWS")
class ConvWS2d(StandardizedConv2d):
    """A convolution with the weight `(w - mean) / (std + eps)`, statistics per output channel, std unbiased.

    Where a filter has a single weight (1x1, one input channel), it counts as standardised: mean 0, std 1.

    Args:
        *args, **kwargs: As for `torch.nn.Conv2d`.
        eps: Added to the standard deviation.

    Source: arXiv:1903.10520, equation 7.
    """

    def __init__(self, *args: Any, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps

    def standardized_weight(self) -> Tensor:
        """As the class says."""
        mean, std = _statistics(self.weight)
        return (self.weight - mean) / (std + self.eps)


@CONV_LAYERS.register_module("StdConv")
class StdConv2d(StandardizedConv2d):
    """A convolution with the weight `(w - mean) / sqrt(var + eps)`, statistics per output channel, var biased.

    The form of BiT's checkpoints. Where a filter has a single weight (1x1, one input channel), it counts as
    standardised.

    Args:
        *args, **kwargs: As for `torch.nn.Conv2d`.
        eps: Added to the variance.

    Source: Kolesnikov et al., Big Transfer (BiT), arXiv:1912.11370, section 2.1, and the code that comes with it.
    """

    def __init__(self, *args: Any, eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps

    def standardized_weight(self) -> Tensor:
        """As the class says."""
        filters = self.weight.shape[1:]
        return self.weight if filters.numel() == 1 else F.layer_norm(self.weight, filters, eps=self.eps)


@CONV_LAYERS.register_module("ConvAWS")
class ConvAWS2d(StandardizedConv2d):
    """A convolution with the weight `gamma * (w - mean) / sqrt(var + 1e-5) + beta`, statistics per output channel.

    gamma and beta are buffers. A checkpoint of a plain convolution has none: they are then set to what keeps its
    function, `sqrt(var + 1e-5)` and `mean` of the loaded weight. A filter with a single weight has mean 0, var 1.

    Source: arXiv:2006.02334, section 4 (the weight of SAC).
    """

    optional_keys = ("weight_gamma", "weight_beta")
    weight_gamma: Tensor
    weight_beta: Tensor

    def reset_parameters(self) -> None:
        """A new random weight, gamma 1 and beta 0."""
        super().reset_parameters()
        per_filter = (self.out_channels, 1, 1, 1)
        self.register_buffer("weight_gamma", self.weight.new_ones(per_filter))
        self.register_buffer("weight_beta", self.weight.new_zeros(per_filter))

    def standardized_weight(self) -> Tensor:
        """As the class says."""
        mean, std = _statistics(self.weight)
        return self.weight_gamma * ((self.weight - mean) / _adaptive(std)) + self.weight_beta

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        weight, gamma, beta = (f"{prefix}{name}" for name in ("weight", "weight_gamma", "weight_beta"))
        plain = weight in state_dict and gamma not in state_dict and beta not in state_dict
        if plain and state_dict[weight].shape == self.weight.shape:
            mean, std = _statistics(state_dict[weight])
            state_dict = {**state_dict, gamma: _adaptive(std), beta: mean}
        super()._load_from_state_dict(state_dict, prefix, *args)


def _adaptive(std: Tensor) -> Tensor:
    return torch.sqrt(std.square() + 1e-5)


def _statistics(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of each filter, (out_channels, 1, 1, 1)."""
    if weight[0].numel() == 1:
        return torch.zeros_like(weight), torch.ones_like(weight)
    std, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True)
    return mean, std
