"""Norm names: `bn1`, `gn1` here and in MMDetection, by type; `bn1` for any type elsewhere.

Tables of layouts speak of `bn` alone. A norm without running statistics is a group norm where nothing else is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_KINDS = ("gn", "in", "ln", "rms", "simple_norm", "bn")
_NORM = re.compile(rf"(?:(?<=\.)|^)({'|'.join(_KINDS)})(?=\d*\.)")


def neutral(key: str) -> str:
    """The key with every norm called `bn`.

    Examples:
        >>> neutral('layer1.0.gn2.weight')
        'layer1.0.bn2.weight'
    """
    return _NORM.sub("bn", key)


def by_type(keys: Iterable[str], known: Collection[str] = ()) -> dict[str, str]:
    """Neutral keys with their norms named by type.

    Args:
        keys: All keys of a net.
        known: Keys that a norm without running statistics may have; without one that fits, it is a group norm.
    """
    keys = list(keys)
    with_statistics = {key.removesuffix("running_mean") for key in keys if key.endswith(".running_mean")}
    return {key: _named(key, with_statistics, known) for key in keys}


def _named(key: str, with_statistics: Collection[str], known: Collection[str]) -> str:
    if "bn" not in key or f"{key.rpartition('.')[0]}." in with_statistics:
        return key
    names = [_NORM.sub(kind, key) for kind in _KINDS]
    return next((name for name in names if name in known), names[0])
