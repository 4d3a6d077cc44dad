"""The first convolution, for pictures of another number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

AdaptStem = Literal["sum", "repeat"]


def stem_key(own: Mapping[str, Tensor]) -> str:
    """The key of the first convolution."""
    return next((key for key, value in own.items() if value.ndim == 4), "")


def adaptable(value: Tensor, own: Tensor, how: AdaptStem | None) -> bool:
    """Whether a stem's weight can be adapted that way: like the model's but for its channels."""
    if value.ndim != 4:
        return False
    shapes = (value.shape[:1] + value.shape[2:], own.shape[:1] + own.shape[2:])
    channels = value.shape[1], own.shape[1]
    fits = channels[1] == 1 if how == "sum" else channels[1] >= channels[0]
    return shapes[0] == shapes[1] and fits


def adapted(weight: Tensor, channels: int, how: AdaptStem) -> Tensor:
    """A stem's weight for another number of channels."""
    before = weight.shape[1]
    if channels == before:
        return weight
    if how == "sum":
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // before), 1, 1)[:, :channels]
    return repeated * (before / channels)
