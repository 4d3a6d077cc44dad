"""A layout as data: one table a family, of our keys and theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from .template import Template, template


class View(NamedTuple):
    """One tensor in two shapes.

    Attributes:
        ours: From theirs.
        theirs: From ours; what `ours` does, undone.
    """

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]


class Rule(NamedTuple):
    """A key of ours, the same key of theirs, and how the tensor changes shape between them, None for not at all."""

    ours: str
    theirs: str
    view: View | None = None


def same(*keys: str, at: str = "") -> tuple[Rule, ...]:
    """Rules for keys that are equal here and there, each behind `at`."""
    return tuple(Rule(at + key, at + key) for key in keys)


def alike(*keys: str) -> tuple[tuple[str, str], ...]:
    """Signs that are equal here and there."""
    return tuple((key, key) for key in keys)


@dataclass(frozen=True)
class Table:
    """The keys of a family in a layout. The first rule that a key fits is the one that holds.

    Attributes:
        family: Its name, for people.
        signs: Pairs of keys, ours and theirs, that every net of this table has: the first convolution's, and others
            that set it apart.
        rules: Keys of the backbone. Norms are called `bn` on our side.
        heads: Keys of what follows the backbone and is loaded by nobody here.
        constants: Keys of ours that they do not have, because each holds this number.
        fits: Whether a net with our keys is of this family, where keys alone do not tell.
        borrowed: Whether the library has no such net, and its layout the names only so that all of ours have some.
    """

    family: str
    signs: tuple[tuple[str, str], ...]
    rules: tuple[Rule, ...]
    heads: tuple[Rule, ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    fits: Callable[[Mapping[str, Tensor]], bool] | None = None
    borrowed: bool = False

    @cached_property
    def _compiled(self) -> tuple[tuple[Template, Template, Rule, bool], ...]:
        rules = [(rule, False) for rule in self.rules] + [(rule, True) for rule in self.heads]
        return tuple((template(rule.ours), template(rule.theirs), rule, head) for rule, head in rules)

    def ours(self, key: str, heads: bool = False) -> tuple[str, Rule] | None:
        """Our name of a key of theirs, and the rule, None where there is none; of the backbone's, or of the heads'."""
        for ours, theirs, rule, head in self._compiled:
            if head == heads and (values := theirs.read(key)) is not None:
                name = ours.write(values)
                return (name, rule) if name is not None else None
        return None

    def theirs(self, key: str, heads: bool = False) -> tuple[str, Rule] | None:
        """Their name of a key of ours, and the rule, None where there is none; of the backbone's, or of the heads'."""
        for ours, theirs, rule, head in self._compiled:
            if head == heads and (values := ours.read(key)) is not None:
                name = theirs.write(values)
                return (name, rule) if name is not None else None
        return None

    def constant(self, key: str) -> float | None:
        """What a key of ours holds that they do not have, None where they have it."""
        return next((value for text, value in self.constants if template(text).read(key) is not None), None)


@dataclass(frozen=True)
class Layout:
    """How a library names weights.

    Attributes:
        name: What users call it.
        whose: The library and what its keys look like, in a phrase.
        tables: One a family. Of two that account for as many keys, the first holds.
        wrapper: What stands before the backbone's keys, and not before the heads', in a file that has heads.
        norms_by_type: Whether norms are named by type, as here.
        headless: Whether its nets have no heads; others' are carried along, and say nothing about whose keys these are.
    """

    name: str
    whose: str
    tables: tuple[Table, ...]
    wrapper: str = ""
    norms_by_type: bool = False
    headless: bool = False
