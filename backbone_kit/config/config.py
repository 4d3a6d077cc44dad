"""Config: a config as a mapping, with the files that it came from."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, Path, dotted
from .dump import replace_file
from .json_text import write_json
from .loader import Loader
from .mapping import DELETE_KEY, ConfigDict
from .origins import IN_CODE, NOTHING, Origin
from .overrides import set_dotted
from .paths import find, parse_path, unknown
from .python_text import write_python
from .yaml_text import write_yaml

_WRITERS = {".py": write_python, ".json": write_json, ".yaml": write_yaml, ".yml": write_yaml}


class Config(ConfigDict):
    """A config: a dict whose keys are attributes too, and know which file and line set them.

    Args:
        mapping: The keys and values, which are copied; a `_base_` in it is relative to the working directory.

    Examples:
        >>> cfg = Config({'model': {'backbone': {'type': 'ResNet', 'depth': 50}}})
        >>> cfg.merge_from_dict({'model.backbone.depth': 101})
        >>> cfg.model.backbone.depth
        101
    """

    def __init__(self, mapping: Mapping[Any, Any] | None = None) -> None:
        mapping = {} if mapping is None else mapping
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"a config is made from a mapping, got {mapping!r:.60} ({_kind(mapping)})")
        self._fill(Loader().load_mapping(mapping), mapping.filename if isinstance(mapping, Config) else None)

    @classmethod
    def fromfile(cls, path: str | os.PathLike[str], trusted: bool = False) -> Config:
        """The config in a `.py`, `.yaml`, `.yml` or `.json` file, merged over its `_base_` files.

        Args:
            path: The file.
            trusted: Whether `.py` files of the chain are executed as Python. Otherwise they are read as data: the
                common expressions are evaluated, and everything else is refused with its line.

        Raises:
            ConfigError: A file is missing, cannot be read, or contradicts another; it names file and line.
        """
        name = _checked(path, "loaded from")
        config: Config = cls.__new__(cls)
        config._fill(Loader(trusted).load_file(name), name)
        return config

    def _fill(self, tree: ConfigDict, filename: str | None) -> None:
        self._start(tree._origins)
        self.__dict__["_filename"] = filename
        dict.update(self, tree)

    @property
    def filename(self) -> str | None:
        """The file this was loaded from, None where it was not; a key `filename` is `cfg['filename']`."""
        name: str | None = self.__dict__["_filename"]
        return name

    @property
    def pretty_text(self) -> str:
        """The config as the text of a `.py` file."""
        return write_python(self.to_dict())

    def dump(self, path: str | os.PathLike[str]) -> None:
        """Writes the config; the suffix of the path names the format, and loading it gives the same config.

        Raises:
            ConfigError: The suffix is unknown, a value is no data, such as a class, or the file cannot be written; a
                file that was there is whole then.
        """
        name = _checked(path, "dumped to")
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in _WRITERS:
            raise ConfigError(f"cannot dump to {name!r}: the name must end in one of {', '.join(_WRITERS)}")
        replace_file(name, _WRITERS[suffix](self.to_dict()))

    def merge_from_dict(self, options: Mapping[str, Any], *, source: str = "merge_from_dict") -> None:
        """Sets dotted keys, all of them or, where one is wrong, none.

        A key may be new where its parent exists; digits index lists and tuples, from the end if negative. A mapping
        over a mapping is merged, unless it says `_delete_=True`, or `key._delete_` is True beside it; everything else
        replaces.

        Args:
            options: Dotted keys and their values.
            source: What `source_of` and `explain` will say of them, such as '--cfg-options'.

        Raises:
            ConfigError: A parent does not exist, with the nearest key; or an index is out of range.
        """
        if not isinstance(options, Mapping):
            raise ConfigError(f"overrides must be a mapping of dotted keys, got {options!r:.60} ({_kind(options)})")
        # What is deleted goes first, as it does where `_delete_` is said inside of the mapping.
        items = sorted(options.items(), key=lambda item: not str(item[0]).endswith(f".{DELETE_KEY}"))
        for config in (copy.deepcopy(self), self):
            for key, value in items:
                set_dotted(config, key, value, source)

    def explain(self, key: str) -> str:
        """Which file and line set a dotted key, and what it replaced.

        Raises:
            ConfigError: There is no such key, with the nearest one.
        """
        value: Any = self
        done: Path = ()
        # An element of a list was set with the list, a key by what set it in its mapping.
        origin: Origin | None = None
        for part in parse_path(key):
            found = find(value, part, done)
            if found is NOTHING:
                raise unknown(value, part, done)
            if isinstance(value, ConfigDict):
                origin = value._origins.get(found)
            value = value[found]
            done += (found,)
        lines = [f"{dotted(done)} = {_short(value)}", f"  {_setter(origin)}"]
        while origin and (origin.before or origin.replaced is not NOTHING):
            merged = origin.replaced is NOTHING
            what = "merged into the dict" if merged else f"replaced {_short(origin.replaced)},"
            lines.append(f"  {what} {_setter(origin.before)}")
            origin = origin.before
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Config({dict.__repr__(self)})"


def _setter(origin: Origin | None) -> str:
    return IN_CODE if origin is None or origin.place == IN_CODE else f"set by {origin.place}"


def _checked(path: Any, use: str) -> str:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(name, str):
        raise ConfigError(f"a config is {use} a path, got {path!r:.60} ({_kind(path)})")
    return name


def _kind(value: Any) -> str:
    return type(value).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
