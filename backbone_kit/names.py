"""Model names: each is a config file of the same name under `configs/`."""

from __future__ import annotations

import fnmatch
import os
from functools import lru_cache
from pathlib import Path

from .errors import ConfigError, did_you_mean

NAMED = {"norm_eval": False, "frozen_stages": -1}
"""What a name means beside its file: a net to train, or to take features from."""


def config_root() -> Path:
    """The folder of the configs that come with the package: inside an installed one, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


@lru_cache(maxsize=1)
def named_configs() -> dict[str, Path]:
    """Model names and their files, in alphabetical order."""
    return {path.stem: path for path in sorted(config_root().glob("[!_]*/*.yaml"), key=lambda path: path.stem)}


def is_name(cfg: str | os.PathLike[str]) -> bool:
    """Whether this is a model name: it has not the suffix of a config file."""
    return Path(cfg).suffix not in (".yaml", ".yml", ".json", ".py")


def find_config(name: str) -> Path:
    """The file of a model name.

    Raises:
        ConfigError: There is no such name, and the message has the nearest.
    """
    found = named_configs().get(name)
    if found is None:
        hint = did_you_mean(name, named_configs()) or "; list_backbones() has them all"
        raise ConfigError(f"{name!r} is neither a file nor a model name{hint}")
    return found


def list_backbones(pattern: str = "*") -> list[str]:
    """The model names that `build_backbone` knows.

    Args:
        pattern: With `*` and `?` as in file names.

    Examples:
        >>> list_backbones('resnet1??')
        ['resnet101', 'resnet152']
    """
    return [name for name in named_configs() if fnmatch.fnmatchcase(name, pattern)]
