"""Two state dicts, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Difference:
    """How two state dicts differ.

    Attributes:
        equal: Keys with equal values in both.
        values: Keys with other values, and the largest absolute difference.
        shapes: Keys with other shapes, and both shapes.
        only_first, only_second: Keys that one of them has alone.
    """

    equal: tuple[str, ...]
    values: Mapping[str, float]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.values or self.shapes or self.only_first or self.only_second)


def compare(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Difference:
    """What is different between two state dicts; true where anything is."""
    equal: list[str] = []
    values: dict[str, float] = {}
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for key in first:
        if key not in second:
            continue
        a, b = first[key], second[key]
        if a.shape != b.shape:
            shapes[key] = tuple(a.shape), tuple(b.shape)
        elif torch.equal(a, b) if a.dtype == b.dtype else torch.equal(a.double(), b.double()):
            equal.append(key)
        else:
            values[key] = float((a.double() - b.double()).abs().max())
    return Difference(
        tuple(equal),
        values,
        shapes,
        tuple(key for key in first if key not in second),
        tuple(key for key in second if key not in first),
    )
