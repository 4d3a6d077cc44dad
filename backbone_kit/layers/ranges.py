"""Checks of numbers that annotations cannot say."""

from __future__ import annotations

import math

from ..errors import ConfigError


def check_positive(**arguments: float | None) -> None:
    """Refuses an argument that is no finite number above 0; None passes.

    Raises:
        ConfigError: One is none.
    """
    for name, value in arguments.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"must be {'positive' if value <= 0 else 'finite'}, got {value}", (name,))
