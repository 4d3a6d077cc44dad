"""A config file and the `_base_` chain below it, in any mix of formats, as one tree."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError
from .chain import SUFFIXES, Chain, Visit, at, read_text, visit_file
from .execute import execute_trusted
from .json_text import read_json
from .limits import Budget, Refused
from .mapping import BASE_KEY, ConfigDict, as_tree, type_name
from .merge import merge
from .origins import NOTHING, Traced
from .overrides import literal
from .packages import find_package_config, stamp_scope
from .statements import base_node, interpret, interpret_base, parse
from .template import MARK, Templates, mark
from .yaml_text import read_yaml

_DEPRECATION_KEY = "_deprecation_"
_FILE_COST = 1000
"""Steps that opening a file takes, so that a chain that includes files twice at every level ends."""


class Loader:
    """Loads one config.

    Args:
        trusted: Whether `.py` files are executed instead of interpreted.
    """

    def __init__(self, trusted: bool = False) -> None:
        self.trusted, self.budget = trusted, Budget()

    def load_file(self, path: str) -> ConfigDict:
        """The config in a file, merged over its bases."""
        return _guarded(lambda: self._file(os.path.expanduser(path), ()), path)

    def load_mapping(self, mapping: Mapping[Any, Any]) -> ConfigDict:
        """A mapping as a config; `_base_` in it is relative to the working directory."""

        def load() -> ConfigDict:
            own: ConfigDict = as_tree(mapping, budget=self.budget)
            visit = Visit("", own.source_of(BASE_KEY))
            return merge(own, self._bases(own.pop(BASE_KEY, []), (visit,)))

        return _guarded(load, "")

    def _file(self, path: str, chain: Chain) -> ConfigDict:
        visit = visit_file(path, chain)
        text = read_text(visit, chain)
        self.budget.spend(_FILE_COST + len(text) // 16)
        suffix = SUFFIXES[os.path.splitext(path)[1].lower()]
        read = {".py": self._python, ".json": self._json, ".yaml": self._yaml}[suffix]
        own, base = read(mark(text, suffix), visit, chain)
        _warn_deprecated(own.pop(_DEPRECATION_KEY, None), visit.shown)
        return merge(own, base)

    def _python(self, text: str, visit: Visit, chain: Chain) -> tuple[ConfigDict, ConfigDict]:
        tree = parse(text, visit.shown)
        node = base_node(tree)
        base = ConfigDict()
        if node:
            bases = interpret_base(node, visit.shown, self.budget, self._templates(text, visit, base))
            base = self._bases(bases, (*chain, visit._replace(line=node.lineno)))
        templates = self._templates(text, visit, base)
        if not self.trusted:
            return interpret(tree, visit.shown, self.budget, base, templates)
        own, base = execute_trusted(tree, visit.path, visit.shown, base, self.budget)
        return self._filled(own, templates), base

    def _json(self, text: str, visit: Visit, chain: Chain) -> tuple[ConfigDict, ConfigDict]:
        return self._document(read_json(text, visit.shown, self.budget), text, visit, chain)

    def _yaml(self, text: str, visit: Visit, chain: Chain) -> tuple[ConfigDict, ConfigDict]:
        return self._document(read_yaml(text, visit.shown, self.budget), text, visit, chain)

    def _document(self, data: Any, text: str, visit: Visit, chain: Chain) -> tuple[ConfigDict, ConfigDict]:
        if not isinstance(data, Traced):
            what = "is empty" if data is NOTHING else f"holds {type_name(data)}"
            raise ConfigError(f"{what}; a config is a mapping of keys to values at the top", source=f"{visit.shown}:1")
        line = data.lines.get(BASE_KEY, 0)
        own: ConfigDict = as_tree(data, file=visit.shown, budget=self.budget, data_only=True)
        inherited = as_tree({BASE_KEY: own.pop(BASE_KEY, [])}, budget=self.budget)
        bases = self._filled(inherited, self._templates(text, visit, ConfigDict()))[BASE_KEY]
        base = self._bases(bases, (*chain, visit._replace(line=line if isinstance(line, int) else 0)))
        return self._filled(own, self._templates(text, visit, base)), base

    def _templates(self, text: str, visit: Visit, base: ConfigDict) -> Templates | None:
        return Templates(visit.path, base, literal, self.budget) if MARK in text else None

    def _filled(self, own: ConfigDict, templates: Templates | None) -> ConfigDict:
        if templates is None:
            return own
        for key, value in own.items():
            try:
                dict.__setitem__(own, key, templates.fill_all(value))
            except (ConfigError, Refused) as error:
                raise ConfigError(str(error), (key,), own.source_of(key)) from None
        # Only for its checks: a base may have brought more levels than a config may have.
        as_tree(own, budget=self.budget)
        return own

    def _bases(self, bases: Any, chain: Chain) -> ConfigDict:
        """The bases of the last file of the chain, side by side."""
        paths = [bases] if isinstance(bases, str) else bases
        if not isinstance(paths, (list, tuple)) or not all(isinstance(path, str) for path in paths):
            raise at(chain, f"{BASE_KEY} must be a path or a list of paths, got {bases!r:.100}")
        joined = ConfigDict()
        for path in paths:
            base = self._base(path, chain)
            for key in base:
                if key in joined:
                    raise at(
                        chain,
                        f"two bases set the key {key!r}: {joined.source_of(key)} and {base.source_of(key)}; keep it in"
                        " one of them, or make one base the base of the other",
                    )
            dict.update(joined, base)
            joined._origins.update(base._origins)
        return joined

    def _base(self, written: str, chain: Chain) -> ConfigDict:
        package, separator, inner = written.partition("::")
        if not separator:
            directory = os.path.dirname(chain[-1].path)
            return self._file(os.path.normpath(os.path.join(directory, os.path.expanduser(written))), chain)
        try:
            path = find_package_config(package, inner)
        except Refused as error:
            raise at(chain, f"the base {written!r} cannot be found: {error}") from None
        return stamp_scope(self._file(path, chain), package)


def _guarded(load: Callable[[], ConfigDict], source: str) -> ConfigDict:
    try:
        return load()
    except Refused as error:
        raise ConfigError(str(error), source=source) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", source=source) from None


def _warn_deprecated(notice: Any, shown: str) -> None:
    if isinstance(notice, Mapping):
        instead = f"; use {notice['expected']}" if "expected" in notice else ""
        reference = f" (see {notice['reference']})" if "reference" in notice else ""
        warnings.warn(f"the config {shown} is deprecated{instead}{reference}", FutureWarning, stacklevel=2)
    elif notice is not None:
        raise ConfigError(
            f"must be a dict with 'expected' and 'reference', got {notice!r:.60}", (_DEPRECATION_KEY,), shown
        )
