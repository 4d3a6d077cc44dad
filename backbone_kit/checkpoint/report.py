"""What a load did, or would do: a verdict in a line, and groups of keys by stage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .words import few

_STAGE = re.compile(r"[^.]*(?:\.\d+(?=\.\d+\.))?")


@dataclass(frozen=True)
class LoadReport:
    """What went where, by the model's keys.

    Attributes:
        source: Where the weights came from.
        layout: The layout of their keys; 'own': the model's own names.
        prefix: What stood before the backbone's keys there.
        matched: Keys of the model that were served.
        renamed: Of these, the ones that have another name there, and that name.
        missing: Keys of the model that were not served, and keep what they had.
        optional: Keys that were not there and are not needed, such as counters of batches.
        new: Keys of layers that no pretrained net has, such as plugins and offsets of deformable convolutions.
        initialised_by: The classes of these layers.
        wrong_shape: Keys whose tensor there has another shape, with both shapes: there, and here.
        unexpected: Keys there that lie inside the backbone and that the model has not.
        left_aside: How many keys there belong to other parts, by part.
        not_read: What else the source holds, such as an optimizer.
        inert: Names of the objects that it holds beside tensors, arrays and containers; none of them was called.
    """

    source: str
    layout: str = "own"
    prefix: str = ""
    matched: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    initialised_by: tuple[str, ...] = ()
    wrong_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    left_aside: Mapping[str, int] = field(default_factory=dict)
    not_read: tuple[str, ...] = ()
    inert: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """How many keys of the model a source should serve."""
        return len(self.matched) + len(self.missing) + len(self.wrong_shape)

    @property
    def verdict(self) -> str:
        """The line that says it all."""
        parts = [f"{len(self.matched)} of {self.needed} served", f"{len(self.renamed)} renamed"]
        if self.wrong_shape:
            parts.append(f"{len(self.wrong_shape)} of another shape")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected")
        if self.new:
            parts.append(f"new: {_keys(len(self.new))}, initialised by {', '.join(self.initialised_by)}")
        aside = few([f"{part} {count}" for part, count in self.left_aside.items()], 8)
        parts.append(f"left aside: {aside or 'nothing'}")
        if self.not_read:
            parts.append(f"{', '.join(self.not_read)} not read")
        return " · ".join(parts)

    def __str__(self) -> str:
        return f"{self.source}: {self.verdict}"

    def details(self) -> str:
        """The verdict, and what is in each group, counted by stage or named."""
        shapes = [f"{key} {there} there, {here} here" for key, (there, here) in self.wrong_shape.items()]
        renamed = [f"{theirs} → {ours}" for ours, theirs in self.renamed.items()]
        groups = {
            "matched": by_stage(self.matched),
            "renamed": few(renamed, 3),
            "missing": _group(self.missing),
            "wrong shape": few(shapes),
            "unexpected": few(self.unexpected),
            "new": by_stage(self.new),
            "not needed": by_stage(self.optional),
            "inert": few(self.inert),
        }
        lines = [f"{name:<12} {text}" for name, text in groups.items() if text]
        where = f", behind {self.prefix!r}" if self.prefix else ""
        return "\n".join([str(self), f"{'layout':<12} {self.layout}{where}", *lines])


def by_stage(keys: Iterable[str]) -> str:
    """How many keys each part of a net has, in order; stages within a container count as parts.

    Examples:
        >>> by_stage(['conv1.weight', 'layer1.0.conv1.weight', 'layer1.0.bn1.weight'])
        'conv1 1, layer1 2'
        >>> by_stage(['stages.0.0.gamma', 'stages.1.0.gamma'])
        'stages.0 1, stages.1 1'
    """
    counts = Counter(_STAGE.match(key)[0] for key in keys)  # type: ignore[index]
    return ", ".join(f"{part} {count}" for part, count in counts.items())


def _group(keys: tuple[str, ...]) -> str:
    return f"{by_stage(keys)}: {few(keys)}" if keys else ""


def _keys(count: int) -> str:
    return f"{count} key{'s' * (count != 1)}"
