"""Model names: each is a config file under `configs/`, or a row of a family's table there, `<family>/names.yaml`."""

from __future__ import annotations

import fnmatch
import json
import os
from functools import cache, lru_cache
from pathlib import Path

from .config import Config
from .errors import ConfigError, did_you_mean

NAMED = {"norm_eval": False, "frozen_stages": -1}
"""What a name means beside its file or row: a net to train, or to take features from."""

TABLE = "names.yaml"
"""A table of names: `shared`, what all have, and `names`, what each has in its place or beside it, key by key."""


def config_root() -> Path:
    """The folder of the configs that come with the package: inside an installed one, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


@lru_cache(maxsize=1)
def named_configs() -> dict[str, Path]:
    """Model names in alphabetical order, each with the file of its own or the table it stands in.

    Raises:
        ConfigError: Two places have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(config_root().glob("[!_]*/*.yaml")):
        for name in _table(path)["names"] if path.name == TABLE else (path.stem,):
            if name in found:
                raise ConfigError(f"the name {name!r} stands in {found[name]} and in {path}; remove one")
            found[name] = path
    return dict(sorted(found.items()))


@cache
def _table(path: Path) -> Config:
    return Config.fromfile(path)


def named_config(name: str) -> Config:
    """The config of a model name, a copy of its own.

    Raises:
        ConfigError: There is no such name, and the message has the nearest.
    """
    path = named_configs().get(name)
    if path is None:
        hint = did_you_mean(name, named_configs()) or "; list_backbones() has them all"
        raise ConfigError(f"{name!r} is neither a file nor a model name{hint}")
    if path.name != TABLE:
        return Config.fromfile(path)
    table = _table(path)
    shared, row = table["shared"], table["names"][name]
    config = Config({key: value for key, value in shared.items() if key not in row})
    config.merge_from_dict(row, source=f"{name} in {path.parent.name}/{TABLE}")
    return config


def is_name(cfg: str | os.PathLike[str]) -> bool:
    """Whether this is a model name: it has not the suffix of a config file."""
    return Path(cfg).suffix not in (".yaml", ".yml", ".json", ".py")


def list_backbones(pattern: str = "*", *, max_gmacs: float | None = None) -> list[str]:
    """The model names that `build_backbone` knows.

    Args:
        pattern: With `*` and `?` as in file names.
        max_gmacs: Only nets of at most so many GMACs (multiply-accumulates, 10^9) at 224 x 224, without a classifier.

    Examples:
        >>> list_backbones('vgg1?')
        ['vgg11', 'vgg13', 'vgg16', 'vgg19']
        >>> list_backbones('vgg1?', max_gmacs=12)
        ['vgg11', 'vgg13']
    """
    names = [name for name in named_configs() if fnmatch.fnmatchcase(name, pattern)]
    if max_gmacs is None:
        return names
    costs = json.loads((config_root() / "zoo.json").read_text())
    return [name for name in names if costs[name]["macs"] <= max_gmacs * 1e9]
