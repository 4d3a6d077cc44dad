"""How much a config may ask for: bounds on time and memory, whatever bytes a file holds."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any

MAX_BYTES = 1 << 20
"""Bytes of one file; the largest config of OpenMMLab's zoos has 30 thousand."""

MAX_DEPTH = 100
"""Levels of nesting of a value, and files of a `_base_` chain."""

MAX_BITS = 4096
"""Bits of an integer: text of it stays below the 4,300 digits that Python converts."""

MAX_WIDTH = 10_000
"""Widths, precisions, digits and `%` templates that formatting and rounding accept."""

MAX_STEPS = 1_000_000
"""Steps of one load: nodes visited, elements made and characters joined, over all files of the chain."""


class Refused(Exception):
    """A message that does not know its place yet; the caller that does makes it a ConfigError."""


class Budget:
    """Steps that one load may still take.

    Attributes:
        left: What remains of `MAX_STEPS`.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Takes `steps` away; Refused where fewer are left."""
        self.left -= steps
        if self.left < 0:
            raise Refused(
                f"asks for more than the {MAX_STEPS:,} steps a config may take"
                " (a value too large, repeated too often, or contained in itself)"
            )

    def weigh(self, *values: Any) -> None:
        """Spends what walking over the values costs, before something that Python would not interrupt does it."""
        stack: list[Any] = list(values)
        while stack:
            value = stack.pop()
            if isinstance(value, str):
                self.spend(1 + len(value))
            elif isinstance(value, dict):
                self.spend(1 + len(value))
                stack.extend(value.keys())
                stack.extend(value.values())
            elif isinstance(value, (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)):
                self.spend(1 + len(value))
                stack.extend(value)
            elif isinstance(value, range):
                self.spend(1 + len(value))
            elif isinstance(value, int):
                self.spend(value.bit_length() >> 2)


def check_int(value: Any) -> Any:
    """The value, unless it is an integer of more than `MAX_BITS` bits."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Refused(f"an integer of {value.bit_length():,} bits; {MAX_BITS:,} are allowed")
    return value
