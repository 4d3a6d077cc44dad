"""Stochastic depth."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


class DropPath(nn.Module):
    """In training, zeroes whole samples with probability `drop_prob` and scales the others by `1 / (1 - drop_prob)`.

    Args:
        drop_prob: Probability that a sample is dropped, 0 to 1.

    Raises:
        ConfigError: `drop_prob` is not between 0 and 1.

    Source: Huang et al., Deep Networks with Stochastic Depth, arXiv:1603.09382.
    """

    def __init__(self, drop_prob: float = 0.1) -> None:
        super().__init__()
        if not 0 <= drop_prob <= 1:
            raise ConfigError(f"must be between 0 and 1, got {drop_prob!r}", ("drop_prob",))
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, ...) to the same shape."""
        if not self.training or self.drop_prob == 0:
            return x
        per_sample = x.new_ones((x.shape[0],) + (1,) * (x.ndim - 1))
        return x * F.dropout(per_sample, self.drop_prob)

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"drop_prob={self.drop_prob}"
