"""Names with `*` in them."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence

from ..errors import ConfigError, did_you_mean


def check_patterns(patterns: Sequence[str], names: Collection[str], argument: str) -> None:
    """Refuses a pattern that is none of the names.

    Raises:
        ConfigError: With the nearest name.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"nothing is called {pattern!r}{did_you_mean(pattern, names)}", (argument,))
