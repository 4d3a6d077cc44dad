"""Theoretical receptive fields: which input pixels a value can depend on, carried along with every tensor of a forward.

A position i of a map sees the input pixels `i * step + low` to `i * step + high` along each axis. A window moves these
bounds (Araujo et al. 2019, "Computing Receptive Fields of CNNs", https://distill.pub/2019/computing-receptive-fields);
where branches meet, the union is taken, so that branches of unequal alignment are right too. What mixes all positions
(global pooling, attention, sampling at learned places) sees everything: its bounds are infinite. The statistics of norm
layers are left out, as is the custom, and what is not known here counts as mixing everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Dims = tuple[bool, ...]  # for every dim of a tensor: whether it runs over positions


class Axis(NamedTuple):
    """What position i sees along one axis of the input: `i * step + low` to `i * step + high`, in pixels.

    Where an operation has lost the step it is `nan`, and the bounds mean nothing.
    """

    low: float = 0
    high: float = 0
    step: float = 1

    @property
    def size(self) -> float:
        """The extent in pixels, `inf` where nothing bounds it or nothing is known."""
        return math.inf if math.isnan(self.step) else self.high - self.low + 1

    def window(self, kernel: float, stride: float = 1, padding: float = 0, dilation: float = 1) -> Axis:
        """Seen through a window that slides over this axis."""
        reach = (kernel - 1) * dilation - padding
        return Axis(self.low - padding * self.step, self.high + reach * self.step, self.step * stride)

    def transposed(self, kernel: float, stride: float, padding: float, dilation: float) -> Axis:
        """Seen through a transposed convolution (an upper bound: the true window depends on i modulo the stride)."""
        step = self.step / stride
        reach = (kernel - 1) * dilation - padding
        return Axis(self.low - math.floor(reach / stride) * self.step, self.high + padding * step, step)

    def unbounded(self, step: float | None = None) -> Axis:
        """Everything, with the same step or a new one."""
        return Axis(-math.inf, math.inf, self.step if step is None else step)

    def union(self, other: Axis) -> Axis:
        """What either of two branches sees."""
        return Axis(min(self.low, other.low), max(self.high, other.high), _larger(self.step, other.step))


def _larger(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


class Field(NamedTuple):
    """The receptive field of a tensor: what it sees along each axis, and which of its dims run over positions."""

    axes: tuple[Axis, ...]
    dims: Dims

    @property
    def size(self) -> tuple[float, ...]:
        """The extent along each axis in input pixels, `inf` where unbounded."""
        return tuple(axis.size for axis in self.axes)

    def places(self) -> list[int]:
        """The dims that run over positions; as many as there are axes, in their order, unless some were flattened."""
        return [dim for dim, runs in enumerate(self.dims) if runs]

    def mixed(self, dims: Sequence[int] | None = None, *, step: float | None = None) -> Field:
        """After values were mixed along `dims` (None: along all), perhaps at a new step."""
        hit = dims is None or any(self.dims[dim] for dim in dims)
        return Field(tuple(axis.unbounded(step) for axis in self.axes), self.dims) if hit else self


def default_dims(ndim: int) -> Dims:
    """Positions from the third dim on, as in (N, C, H, W)."""
    return tuple(dim >= 2 for dim in range(ndim))
