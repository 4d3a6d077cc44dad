"""A file run in its runtime, beside the backbone that was written to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .backbone import Exported, pictures
from .formats import FORMATS, explained, need, quiet

# Of a map's largest value: more than runtimes differ by, less than a wrong operator does.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Difference:
    """How far a map of a file is from the backbone's.

    Attributes:
        name: The map's.
        shape: Its shape, (N, C, H, W).
        images: The shape of the pictures.
        largest: The largest absolute difference of two values.
        relative: That in units of the map's largest absolute value.
        tolerance: What `relative` may be.
    """

    name: str
    shape: tuple[int, ...]
    images: tuple[int, ...]
    largest: float
    relative: float
    tolerance: float

    @property
    def passes(self) -> bool:
        """Whether the map is the backbone's; one that is not a number is not."""
        return self.relative <= self.tolerance


def check_export(exported: Exported, *, tolerance: float | None = None) -> list[Difference]:
    """Runs a file in its runtime, on the pictures that it was traced with and on others, and compares it with eager.

    Where the file takes any batch, the others are one picture more; where it takes any size, they have other sides, odd
    ones, so that every way of rounding shows.

    Args:
        exported: What `export_backbone` returned.
        tolerance: How far a value may be off, in units of the map's largest; None: 1e-9 in float64, 1e-4 in
            float32, 2e-2 in float16, 1e-1 in bfloat16.

    Returns:
        For each batch of pictures and each map how far it is off.

    Raises:
        ConfigError: The tolerance is no finite number from 0 on.
        ModuleNotFoundError: The runtime is not installed.
        RuntimeError: The runtime cannot load or run the file, or the file gives other maps than it says.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ConfigError(f"must be 0 or more, and finite, got {tolerance}", ("tolerance",))
    form = FORMATS[exported.format]
    need([form.runtime], f"checking format {exported.format!r}")
    with torch.no_grad(), quiet():
        with explained(f"{form.runtime} cannot load {exported.path}"):
            run = form.load(exported.path)
        rows = []
        for images in _batches(exported):
            with explained(f"{form.runtime} cannot run {exported.path} on {tuple(images.shape)}"):
                maps = run(images)
            rows += _differences(exported, maps, images, tolerance)
    return rows


def _batches(exported: Exported) -> list[Tensor]:
    """What it was traced with, and what differs from it wherever the file allows."""
    batch, _, height, width = exported.example.shape
    if isinstance(exported.images.shape[0], str):
        batch += 1
    if exported.smallest is not None:
        height, width = height + 37, max(width - 37, exported.smallest + 1)
    if (batch, height, width) == (exported.example.shape[0], *exported.example.shape[2:]):
        return [exported.example]
    pixels = exported.example.dtype == torch.uint8
    return [exported.example, pictures(exported.reference, (batch, height, width), pixels=pixels)]


def _differences(
    exported: Exported, maps: Sequence[Tensor], images: Tensor, tolerance: float | None
) -> list[Difference]:
    expected = exported.reference(images)
    rows = []
    for port, ours, theirs in zip(exported.maps, maps, expected, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise RuntimeError(
                f"{exported.path}: {port.name} came out as {ours.dtype} {tuple(ours.shape)}, "
                f"not as {theirs.dtype} {tuple(theirs.shape)}"
            )
        largest = float((ours.to(theirs.device).double() - theirs.double()).abs().max())
        relative = largest / max(float(theirs.double().abs().max()), 1e-30)
        allowed = TOLERANCES[theirs.dtype] if tolerance is None else tolerance
        rows.append(Difference(port.name, tuple(theirs.shape), tuple(images.shape), largest, relative, allowed))
    return rows
