"""Checks of arguments that annotations cannot say: a least value, one value a stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..errors import ConfigError

T = TypeVar("T")


def check_range(name: str, value: int, least: int = 1, path: tuple[int, ...] = ()) -> None:
    """Refuses an argument that is less than `least`; `path` leads to the value inside of it."""
    if value < least:
        raise ConfigError(f"must be {least} or more, got {value}", (name, *path))


def check_rate(name: str, value: float) -> None:
    """Refuses a probability that is not from 0 to less than 1."""
    if not 0 <= value < 1:
        raise ConfigError(f"must be from 0 to less than 1, got {value}", (name,))


def per_stage(
    name: str,
    values: Sequence[T] | None,
    num_stages: int,
    default: Sequence[T] = (),
    path: tuple[str | int, ...] = (),
) -> tuple[T, ...]:
    """One value a stage; `default`, which has the right length, where None is given."""
    values = default if values is None else values
    if len(values) != num_stages:
        raise ConfigError(f"needs {num_stages} values, one a stage, got {tuple(values)}", (*path, name))
    return tuple(values)
