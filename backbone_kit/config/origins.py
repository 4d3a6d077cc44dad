"""Origin: where a key got its value, and what it replaced; Traced: a dict whose keys still know their lines."""

from __future__ import annotations

import copy
import enum
from typing import Any, NamedTuple


class Nothing(enum.Enum):
    """Stands where no value was; an Enum, so that it is one object through copies and pickles."""

    NOTHING = "nothing"


NOTHING: Any = Nothing.NOTHING

IN_CODE = "set in code"
"""What stands for `file:line` where Python code, and no file, gave a key its value."""


class Origin(NamedTuple):
    """Where a key got its value.

    Attributes:
        place: `file:line`, or the name of another source such as `IN_CODE`.
        replaced: The value that was there, `NOTHING` where there was none or where a mapping was merged into it.
        before: Where the earlier value came from, None where there was none or no file had it.
    """

    place: str
    replaced: Any = NOTHING
    before: Origin | None = None


class Traced(dict[Any, Any]):
    """A plain dict of one file while it is read; `lines` holds the line of each key, or its Origin in another file."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int | Origin] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        # Not the origins: they hold on to whole values that were replaced.
        memo[id(self)] = twin = Traced()
        twin.update((key, copy.deepcopy(value, memo)) for key, value in self.items())
        twin.lines.update(self.lines)
        return twin
