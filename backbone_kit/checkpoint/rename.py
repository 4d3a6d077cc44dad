"""The engine of layouts: the keys of a file read with a table, our keys written with one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .norms import by_type, neutral
from .table import Layout, Rule, Table


@dataclass(frozen=True)
class Reading:
    """A file's keys as one table reads them.

    Attributes:
        layout: The layout.
        table: Its table.
        prefix: What stands before the backbone's keys.
        names: Their key to ours, of the backbone.
        heads: Their key to ours, of its heads.
        rules: The rule of every key of theirs that has one.
        constants: Keys of ours that they do not have, the key of ours beside it, and what they hold.
        rest: Keys that the table does not know.
    """

    layout: Layout
    table: Table
    prefix: str
    names: Mapping[str, str]
    heads: Mapping[str, str]
    rules: Mapping[str, Rule]
    constants: Mapping[str, tuple[str, float]]
    rest: Sequence[str]

    @property
    def accounted(self) -> int:
        """How many keys speak for this layout."""
        return len(self.names) + (0 if self.layout.headless else len(self.heads))

    def tensors(self, weights: Mapping[str, Tensor], heads: bool = True) -> dict[str, Tensor]:
        """The tensors under our names, and in our shapes."""
        ours: dict[str, Tensor] = {}
        for names in (self.names, self.heads) if heads else (self.names,):
            for theirs, name in names.items():
                view = self.rules[theirs].view
                ours[name] = weights[theirs] if view is None else view.ours(weights[theirs])
        for name, (beside, value) in self.constants.items():
            ours[name] = torch.full_like(ours[beside], value)
        return ours


def read(keys: Iterable[str], layout: Layout, table: Table, prefix: str = "", known: Collection[str] = ()) -> Reading:
    """The keys of a file by their names here.

    Args:
        keys: All keys of the file.
        layout: How they are named.
        table: The family's names.
        prefix: What stands before the backbone's keys.
        known: Our keys, if there is a model: they tell which norms it has.
    """
    names: dict[str, str] = {}
    heads: dict[str, str] = {}
    rules: dict[str, Rule] = {}
    rest: list[str] = []
    wrapped = prefix.endswith(layout.wrapper)
    outer = prefix.removesuffix(layout.wrapper)
    for key in keys:
        found, into = None, heads
        if wrapped and key.startswith(outer):
            found = table.ours(key[len(outer) :], heads=True)
        if found is None and key.startswith(prefix):
            inner, into = key[len(prefix) :], names
            found = table.ours(neutral(inner) if layout.norms_by_type else inner)
        if found is None:
            rest.append(key)
        else:
            into[key], rules[key] = found
    constants = _constants(table, names.values())
    if layout.norms_by_type:
        known = {key[len(prefix) :] for key in names}
    typed = by_type([*names.values(), *constants], known)
    return Reading(
        layout,
        table,
        prefix,
        {key: typed[name] for key, name in names.items()},
        heads,
        rules,
        {typed[name]: (typed[beside], value) for name, (beside, value) in constants.items()},
        rest,
    )


def _constants(table: Table, names: Iterable[str]) -> dict[str, tuple[str, float]]:
    """What norms have here and not there: our key, the key beside it, the number that it holds."""
    constants: dict[str, tuple[str, float]] = {}
    if table.constants:
        for beside in names:
            for last in ("running_mean", "running_var"):
                key = f"{beside.rpartition('.')[0]}.{last}"
                value = table.constant(key)
                if value is not None and beside.endswith(".weight"):
                    constants[key] = (beside, value)
    return constants


def write(ours: Mapping[str, Tensor], layout: Layout, table: Table) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under their names and in their shapes, and the keys that have none there."""
    inside: dict[str, Tensor] = {}
    heads: dict[str, Tensor] = {}
    rest: list[str] = []
    for key, value in ours.items():
        plain = neutral(key)
        constant = table.constant(plain)
        if constant is not None and bool((value == torch.full_like(value, constant)).all()):
            continue
        into, found = heads, table.theirs(key, heads=True)
        if found is None:
            into, found = inside, table.theirs(plain)
        if found is None:
            rest.append(key)
            continue
        name, rule = found
        into[name] = value if rule.view is None else rule.view.theirs(value)
    if layout.norms_by_type:
        typed = by_type(inside, ours)
        inside = {typed[key]: value for key, value in inside.items()}
    wrapper = layout.wrapper if heads else ""
    return {**{wrapper + key: value for key, value in inside.items()}, **heads}, rest


def prefixes(keys: Collection[str], table: Table) -> list[str]:
    """What can stand before the backbone's keys: there, all signs of the table are present."""
    (_, first), *others = table.signs
    starts = [key[: -len(first)] for key in keys if key == first or key.endswith("." + first)]
    return [start for start in starts if all(start + sign in keys for _, sign in others)]


def readings(
    keys: Collection[str], layouts: Iterable[Layout], prefix: str | None = None, known: Collection[str] = ()
) -> Iterator[Reading]:
    """Every way to read a file's keys, in the order of the layouts and their tables."""
    for layout in layouts:
        for table in layout.tables:
            for start in prefixes(keys, table):
                if prefix is None or start == prefix:
                    yield read(keys, layout, table, start, known)
