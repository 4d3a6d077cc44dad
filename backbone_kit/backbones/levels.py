"""Levels of features: what they are, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ConfigError


@dataclass(frozen=True)
class FeatureInfo:
    """One level of features.

    Attributes:
        name: 'stem', or the name of the stage or branch.
        channels: C of its map (N, C, H, W).
        stride: Input pixels per pixel of the map, in each direction.
    """

    name: str
    channels: int
    stride: int


class Part(NamedTuple):
    """A stretch of a backbone's forward: the stem, the pool, a stage, what leads to a further level of it.

    Attributes:
        name: 'stem', 'pool', or the name of the stage or level.
        modules: Names of its layers in the order in which they run, with dots where they are further inside.
        out: Names of the layers that lead from there to the map of its level, and to nothing else.
        channels: Channels of its map.
        stride: Stride of its map in input pixels.
        position: With which `frozen_stages` it freezes: 0 for the stem and the pool, k for stage k.
        is_level: Whether its map is a level of features.
        blocks: How many blocks are stacked in it; 0 where it is no stage.
    """

    name: str
    modules: tuple[str, ...]
    out: tuple[str, ...]
    channels: int
    stride: int
    position: int
    is_level: bool
    blocks: int


def normalized_indices(out_indices: Sequence[int] | None, num_stages: int) -> tuple[int, ...]:
    """The stages that `out_indices` means, in its order.

    Args:
        out_indices: Indices from 0, or from the end with -1 for the last; None means all.
        num_stages: How many stages there are.

    Raises:
        ConfigError: There is none, one is out of range, or two mean the same stage.

    Examples:
        >>> normalized_indices((-1, 1), 4)
        (3, 1)
    """
    if out_indices is None:
        return tuple(range(num_stages))
    path = ("out_indices",)
    if not out_indices:
        raise ConfigError(f"must name at least one stage, from 0 to {num_stages - 1}, got {out_indices!r}", path)
    for index in out_indices:
        if not -num_stages <= index < num_stages:
            hint = ""
            if num_stages <= 4 and max(out_indices) == num_stages and min(out_indices) >= 0:
                shifted = tuple(i - 1 for i in out_indices if i > 0)
                hint = f"; timm counts the stem as 0, so that its {tuple(out_indices)} is {shifted} here"
            there = f"the {num_stages} stages are 0 to {num_stages - 1}" if num_stages > 1 else "there is only 0"
            raise ConfigError(f"{index} is out of range: {there}{hint}", path)
    indices = tuple(index % num_stages for index in out_indices)
    if len(set(indices)) < len(indices):
        raise ConfigError(f"names a stage twice: {tuple(out_indices)}", path)
    return indices
