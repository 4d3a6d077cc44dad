"""A config as the text of a `.py` config file."""

from __future__ import annotations

import keyword
import math
from typing import Any

from ..errors import Path
from .dump import unwritable
from .template import escape

_WIDTH = 100
_USED = ("dict", "set", "float")
"""Names that the text calls; a key of that name must not become a variable."""


def write_python(config: dict[Any, Any]) -> str:
    """The text of a config: one assignment for each key.

    Where a key cannot be a variable, all are set as items of `_base_`, which holds what a file inherits: here nothing
    else.
    """
    lines = []
    variables = all(map(_is_variable, config))
    for key, value in config.items():
        name = key if variables else f"_base_[{_flat(key, (key,))}]"
        lines.append(f"{name} = {_text(value, len(name) + 3, (key,))}\n")
    return escape("".join(lines), "\\x7b")


def _is_variable(key: Any) -> bool:
    return _is_name(key) and key not in _USED and not key.startswith("__") and key != "_base_"


def _is_name(key: Any) -> bool:
    # Python folds other letters into ASCII ones, so that such a name would come back as another.
    return isinstance(key, str) and key.isascii() and key.isidentifier() and not keyword.iskeyword(key)


def _text(value: Any, column: int, path: Path, indent: int = 0) -> str:
    """The value on one line where it fits, else one element a line."""
    flat = _flat(value, path)
    opening, parts, closing = _parts(value, path)
    if opening is None or not parts or column + len(flat) <= _WIDTH:
        return flat
    pad = " " * (indent + 4)
    rows = [
        f"{pad}{prefix}{_text(item, indent + 4 + len(prefix), inner, indent + 4)},\n" for prefix, item, inner in parts
    ]
    return f"{opening}\n{''.join(rows)}{' ' * indent}{closing.lstrip(',')}"


def _flat(value: Any, path: Path) -> str:
    opening, parts, closing = _parts(value, path)
    if opening is None:
        return str(parts)
    return opening + ", ".join(prefix + _flat(item, inner) for prefix, item, inner in parts) + closing


def _parts(value: Any, path: Path) -> tuple[str | None, Any, str]:
    """Opening bracket, (prefix, element, path) of each element, closing bracket; (None, text, '') of a scalar."""
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            return "dict(", [(f"{key}=", item, (*path, key)) for key, item in value.items()], ")"
        return "{", [(f"{_flat(key, path)}: ", item, (*path, key)) for key, item in value.items()], "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        brackets = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        if isinstance(value, (set, frozenset)):
            brackets = ("{", "}") if value else ("set(", ")")
        return brackets[0], [("", item, (*path, index)) for index, item in enumerate(value)], brackets[1]
    if type(value) is float and not math.isfinite(value):
        return None, f"float('{value}')", ""
    if value is None or type(value) in (str, int, float, bool):
        return None, repr(value), ""
    raise unwritable(value, path)
