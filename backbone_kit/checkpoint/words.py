"""How messages of checkpoints count."""

from __future__ import annotations

from collections.abc import Sequence


def few(items: Sequence[str], limit: int = 4) -> str:
    """The first items, and how many more there are.

    Examples:
        >>> few(['a', 'b', 'c'], limit=2)
        'a, b and 1 more'
    """
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
