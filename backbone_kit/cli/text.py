"""Numbers for people."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence


def human(value: float, unit: str = "", digits: int = 4) -> str:
    """A number of significant digits with an SI prefix.

    Examples:
        >>> human(23508032), human(91332512, 'B', 3), human(512)
        ('23.51 M', '91.3 MB', '512')
    """
    size, prefix = next(((s, p) for s, p in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1, ""))
    value /= size
    places = 0 if size == 1 else max(0, digits - 1 - int(math.log10(value)))
    return f"{value:.{places}f} {prefix}{unit}".rstrip()


def giga(value: float) -> str:
    """In 10^9, four significant digits.

    Examples:
        >>> giga(4089184256), giga(150e9), giga(12)
        ('4.089', '150.0', '<0.001')
    """
    if value < 5e5:
        return "<0.001" if value else "0"
    return f"{value / 1e9:.{3 - min(3, max(0, int(math.log10(value)) - 9))}f}"


def extent(sizes: Sequence[float] | None) -> str:
    """Pixels along the axes: once where they are equal, ∞ (or 'inf') where unbounded, '' for None.

    Examples:
        >>> extent((427, 427)), extent((7, 3)), extent((math.inf, math.inf))
        ('427', '7x3', '∞')
    """
    if not sizes:
        return ""
    infinite = "∞" if can_print("∞") else "inf"
    texts = [infinite if math.isinf(size) else f"{math.ceil(size)}" for size in sizes]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def can_print(text: str) -> bool:
    """Whether stdout's encoding has all characters of a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def by_count(counts: Mapping[str, int]) -> str:
    """Names with how often they occur.

    Examples:
        >>> by_count({'relu': 49, 'add': 1})
        'relu x49, add'
    """
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counts.items())
