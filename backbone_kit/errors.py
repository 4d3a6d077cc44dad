"""The two errors a user meets, and the words they share.

Every user mistake ends in one of them: it names the place, the value, what is allowed and the nearest fix.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config.

    Attributes:
        message: What is wrong, what is allowed and how to fix it; no trailing full stop.
        path: Keys and indices that lead to the value, from the outermost config inwards; () where there is none.
        source: `file:line` of the value, '' where it did not come from a file.
    """

    message: str
    path: Path = ()
    source: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, dotted(self.path), self.message) if part)


class ConfigError(ValueError):
    """A config, or an argument that a config could have set, cannot be used.

    Args:
        problems: A message, a `Problem`, or several problems, which are then shown together.
        path: Where the problem is, when `problems` is a message.
        source: `file:line`, when `problems` is a message.

    Attributes:
        problems: All of them, in the order in which they are shown.

    Examples:
        >>> print(ConfigError("must be an int, got '50' (str)", path=('model', 'backbone', 'depth')))
        model.backbone.depth: must be an int, got '50' (str)
    """

    def __init__(self, problems: str | Problem | Sequence[Problem], path: Path = (), source: str = "") -> None:
        if isinstance(problems, str):
            problems = Problem(problems, path, source)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return "\n".join([f"{len(self.problems)} problems:", *(f"  {problem}" for problem in self.problems)])

    def within(self, *path: str | int) -> ConfigError:
        """The same error seen from further out: `path` is put in front of every problem's path."""
        return ConfigError([replace(problem, path=(*path, *problem.path)) for problem in self.problems])


@contextlib.contextmanager
def located(*path: str | int) -> Iterator[None]:
    """Puts `path` in front of what a ConfigError raised inside of it names: the key whose value is being used.

    Examples:
        >>> with located('norm_cfg'):
        ...     raise ConfigError('must be positive', ('eps',))
        Traceback (most recent call last):
        ...
        backbone_kit.errors.ConfigError: norm_cfg.eps: must be positive
    """
    try:
        yield
    except ConfigError as error:
        raise error.within(*path) from error.__cause__


class CheckpointError(ValueError):
    """A checkpoint cannot be found, read, trusted or matched; the model is untouched."""


def dotted(path: Path) -> str:
    """A path as it is written in messages and overrides.

    Examples:
        >>> dotted(('model', 'plugins', 1, 'cfg'))
        'model.plugins[1].cfg'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def did_you_mean(name: object, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """The clause that ends a message about an unknown name, '' where nothing is near.

    Args:
        name: What was said.
        choices: What could have been meant.
        cutoff: The share of letters that must agree.

    Examples:
        >>> did_you_mean('ResNett', ['ResNet', 'VGG'])
        "; did you mean 'ResNet'?"
    """
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
