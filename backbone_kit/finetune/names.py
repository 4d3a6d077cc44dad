"""Arguments that are checked before anything is changed: their kinds, and names with `*` in them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError, did_you_mean
from ..signature import check_arguments


def check_kinds(function: Callable[..., Any], model: Any, **given: Any) -> None:
    """Refuses a model that is none, and arguments that are not what the function's annotations say.

    Raises:
        ConfigError: With all of them.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"must be a torch.nn.Module, got a {type(model).__name__}", ("model",))
    problems = check_arguments(function, given, supplied=("model", "patterns"))
    if problems:
        raise ConfigError(problems)


def check_patterns(patterns: Sequence[str], names: Collection[str], argument: str) -> None:
    """Refuses a pattern that is none of the names.

    Raises:
        ConfigError: With the nearest name.
    """
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ConfigError(f"must be names, each an argument of its own, got {pattern!r:.60}", (argument,))
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"nothing is called {pattern!r}{did_you_mean(pattern, names)}", (argument,))
