"""What YAML and JSON share: dicts, lists and scalars from a stream of events, with the line of every key."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .limits import MAX_DEPTH, Budget, Refused
from .mapping import type_name
from .origins import NOTHING, Traced

MERGE: Any = object()
"""The key `<<`: the keys of another mapping where the own ones leave room."""


class _Level:
    """A container that is still open.

    Attributes:
        kind: dict, set, list or tuple.
        key: The key whose value comes next.
        merged: Mappings that `<<` brings in.
    """

    def __init__(self, kind: type, line: int, anchor: str | None) -> None:
        self.kind, self.line, self.anchor = kind, line, anchor
        self.mapping = Traced()
        self.items: list[Any] = []
        self.key: Any = NOTHING
        self.merged: list[Traced] = []

    def expects_key(self) -> bool:
        """Whether the next value is a key."""
        return self.kind in (dict, set) and self.key is NOTHING


class DocumentBuilder:
    """Collects the events of one document.

    Args:
        file: Where the text is from, for messages.
        budget: What the load may still spend.

    Attributes:
        root: The document, `NOTHING` before it is complete.
    """

    def __init__(self, file: str, budget: Budget) -> None:
        self.file, self.budget = file, budget
        self.root: Any = NOTHING
        self._levels: list[_Level] = []
        self._anchors: dict[str, Any] = {}

    def open(self, kind: type, line: int, anchor: str | None = None) -> None:
        """A container begins."""
        if len(self._levels) >= MAX_DEPTH:
            raise self.error(f"is nested deeper than {MAX_DEPTH} levels", line)
        if anchor:
            self._anchors[anchor] = NOTHING
        self._levels.append(_Level(kind, line, anchor))

    def close(self) -> None:
        """The innermost container ends."""
        level = self._levels.pop()
        value: Any = self._merged(level) if level.merged else level.mapping
        if level.kind is not dict:
            value = level.kind(value if level.kind is set else level.items)
        self.value(value, level.line, level.anchor)

    def value(self, value: Any, line: int, anchor: str | None = None) -> None:
        """A scalar or a finished container, as key, value, element or document."""
        self.budget.spend(1)
        if anchor:
            self._anchors[anchor] = value
        if value is MERGE and not (self._levels and self._levels[-1].expects_key()):
            value = "<<"
        if not self._levels:
            if self.root is not NOTHING:
                raise self.error("holds more than one document; a config is one", line)
            self.root = value
            return
        level = self._levels[-1]
        if level.kind in (list, tuple):
            level.items.append(value)
        elif level.expects_key():
            level.key = value
            if value is not MERGE:
                self._begin_key(level, value, line)
        else:
            self._end_key(level, value, line)

    def alias(self, anchor: str, line: int) -> None:
        """The value of an earlier anchor."""
        value = self._anchors.get(anchor, NOTHING)
        if value is NOTHING:
            state = "contains itself" if anchor in self._anchors else "is no anchor above"
            raise self.error(f"*{anchor} {state}", line)
        self.value(value, line)

    def error(self, message: str, line: int) -> ConfigError:
        """A ConfigError at a line of this file."""
        return ConfigError(message, source=f"{self.file}:{line}" if self.file else "")

    def _begin_key(self, level: _Level, key: Any, line: int) -> None:
        try:
            self.budget.weigh(key)
            hash(key)
        except TypeError:
            raise self.error(f"{type_name(key)} cannot be a key; write a string", line) from None
        except Refused as error:
            raise self.error(str(error), line) from None
        if key in level.mapping:
            raise self.error(f"the key {key!r} is set twice, first on line {level.mapping.lines[key]}; keep one", line)
        level.mapping[key] = None
        level.mapping.lines[key] = line

    def _end_key(self, level: _Level, value: Any, line: int) -> None:
        key, level.key = level.key, NOTHING
        if key is not MERGE:
            level.mapping[key] = value
            return
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, Traced) for mapping in mappings):
            raise self.error("<< needs a mapping or a list of mappings", line)
        level.merged.extend(mappings)

    def _merged(self, level: _Level) -> Traced:
        result = Traced()
        # The first mapping of a list wins over the later ones, the own keys over all of them.
        for mapping in (*reversed(level.merged), level.mapping):
            self.budget.spend(1 + len(mapping))
            result.update(mapping)
            result.lines.update(mapping.lines)
        return result
