"""Dotted paths into a config: `model.plugins.0.cfg`, also written `model.plugins[0].cfg`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, Path
from .mapping import ConfigDict, nearest
from .origins import NOTHING

_PART = re.compile(r"""\.?(?:\[\s*(-?\d+)\s*\]|\[?(?:'([^']*)'|"([^"]*)")\]?|([^.\[\]]+))""")


def parse_path(text: str) -> Path:
    """The keys and indices of a dotted path; a key with dots in it is quoted.

    Examples:
        >>> parse_path('model.plugins[0].cfg')
        ('model', 'plugins', 0, 'cfg')
        >>> parse_path("custom_keys.'backbone.norm'.lr_mult")
        ('custom_keys', 'backbone.norm', 'lr_mult')

    Raises:
        ConfigError: The path is no string, is empty, or has an empty part.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise ConfigError(f"a key must be a dotted path such as 'model.backbone', got {text!r:.60} ({kind})")
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if not found or (text[at] == ".") != (at > 0 and text[at] != "["):
            break
        index, single, double, plain = found.groups()
        parts.append(int(index[:10]) if index else next(p for p in (single, double, plain) if p is not None))
        at = found.end()
    if not parts or at < len(text):
        raise ConfigError(f"{text!r:.100} is not a dotted path; write it like model.backbone.depth or pipeline.0.type")
    return tuple(parts)


def look_up(root: ConfigDict, text: str) -> Any:
    """The value at a dotted path, or a ConfigError that says how far the path exists."""
    value: Any = root
    done: Path = ()
    for part in parse_path(text):
        value = step(value, part, done)
        done += (part,)
    return value


def find(node: Any, part: str | int, done: Path) -> Any:
    """The key or index that a part of a path means in a node, NOTHING where a mapping lacks it.

    Digits mean an index in a list, and in a mapping the key as a string or, failing that, as an int.

    Raises:
        ConfigError: The index is none or out of range, or the node has no parts.
    """
    if isinstance(node, ConfigDict):
        if part in node:
            return part
        if isinstance(part, int):
            return str(part) if str(part) in node else NOTHING
        return int(part) if re.fullmatch(r"-?\d{1,18}", part) and int(part) in node else NOTHING
    if isinstance(node, (list, tuple)):
        return _index(node, part, done)
    raise ConfigError(f"has no {part!r}: it is {node!r:.60} ({type(node).__name__})", done)


def step(node: Any, part: str | int, done: Path) -> Any:
    """The value one part further, or a ConfigError with the nearest key."""
    key = find(node, part, done)
    if key is NOTHING:
        raise unknown(node, part, done)
    return node[key]


def unknown(node: ConfigDict, part: str | int, done: Path) -> ConfigError:
    """The error for a key that a mapping lacks."""
    near = nearest(part, node)
    keys = ", ".join(f"{key!r:.60}" for key in list(node)[:10]) + (", ..." if len(node) > 10 else "")
    inside = "" if done else " at the top of the config"
    return ConfigError(f"no key {part!r}{inside}{near or f'; its keys are {keys or None}'}", done)


def _index(node: Sequence[Any], part: str | int, done: Path) -> int:
    if not isinstance(part, int) and not re.fullmatch(r"-?\d{1,18}", part):
        raise ConfigError(f"is a {type(node).__name__}: {part!r} is no index into it, write 0 or -1", done)
    index = int(part)
    if not -len(node) <= index < len(node):
        allowed = f"{-len(node)}..{len(node) - 1} are allowed" if node else "it is empty"
        raise ConfigError(f"index {index} is out of range of its {len(node)} elements; {allowed}", done)
    return index
