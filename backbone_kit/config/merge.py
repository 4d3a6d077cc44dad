"""One config over another: mappings merge, everything else replaces."""

from __future__ import annotations

import copy
from typing import Any

from ..errors import ConfigError, Path
from .mapping import DELETE_KEY, ConfigDict
from .origins import IN_CODE, NOTHING, Origin


def merge(child: ConfigDict, base: ConfigDict, path: Path = ()) -> ConfigDict:
    """The child's keys over the base's.

    A mapping over a mapping merges key by key, unless it said `_delete_=True`; a mapping over None or over nothing
    is set. Lists are replaced as a whole.

    Args:
        child: What was written later; its nodes become part of the result.
        base: What is inherited; not modified.
        path: Where both stand in the config, for messages.

    Raises:
        ConfigError: A mapping stands over a list, a number or a string.
    """
    merged: ConfigDict = ConfigDict() if child._deletes else copy.copy(base)
    for key, value in child.items():
        old = merged.get(key, NOTHING)
        before = merged._origins.get(key)
        origin, place = child._origins.get(key), child.source_of(key)
        if isinstance(value, ConfigDict) and isinstance(old, ConfigDict) and not value._deletes:
            value, old = merge(value, old, (*path, key)), NOTHING
        elif isinstance(value, ConfigDict) and old is not NOTHING and old is not None and not value._deletes:
            raise _mapping_over(value, old, before, (*path, key), place)
        dict.__setitem__(merged, key, value)
        if before or (origin and old is not NOTHING):
            merged._origins[key] = Origin(place or IN_CODE, old, before)
        elif origin:
            merged._origins[key] = origin
    return merged


def _mapping_over(value: ConfigDict, old: Any, before: Origin | None, path: Path, place: str) -> ConfigError:
    where = f", set by {before.place}" if before and before.place else ""
    what = f"{old!r:.60} ({type(old).__name__}{where})"
    keys = ", ".join(map(str, value)) or "no keys"
    indexed = f", or one element through an override such as {path[-1]}.0=..." if isinstance(old, (list, tuple)) else ""
    return ConfigError(
        f"a dict ({keys}) cannot be merged into {what}; add {DELETE_KEY}=True to replace it{indexed}", path, place
    )
