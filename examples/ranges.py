"""What the numbers of a config's section may be."""

from __future__ import annotations

from backbone_kit import ConfigError
from backbone_kit.errors import Problem


def check_ranges(section: object, **ranges: tuple[bool, str]) -> None:
    """Refuses, all at once, what is out of range.

    Args:
        section: What has the values.
        **ranges: By the name of a value, whether it is allowed, and what is: '1 or more'.

    Raises:
        ConfigError: One is not allowed.
    """
    wrong = [
        Problem(f"must be {allowed}, got {getattr(section, name)}", (name,))
        for name, (fits, allowed) in ranges.items()
        if not fits
    ]
    if wrong:
        raise ConfigError(wrong)
