"""ConfigDict: a dict whose keys are attributes too and know where they were set."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import addict

from ..errors import ConfigError, did_you_mean
from .limits import MAX_DEPTH, Budget, Refused, check_int
from .origins import IN_CODE, Origin, Traced

BASE_KEY = "_base_"
DELETE_KEY = "_delete_"
_CURES = {
    DELETE_KEY: "assigning a dict replaces what was there, and update(..., _delete_=True) empties a mapping first",
    BASE_KEY: "it inherits in a file, or in the mapping that a Config is made from",
}


class ConfigDict(addict.Dict):  # type: ignore[misc]
    """A dict with attribute access, for the nested mappings of a config.

    Nested dicts become ConfigDicts, also in lists and tuples. A missing attribute is an AttributeError and a missing
    item a KeyError: nothing is created by being asked for.

    Examples:
        >>> node = ConfigDict(backbone={'depth': 50})
        >>> node.backbone.depth, node['backbone']['depth']
        (50, 50)
    """

    _deletes = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._start({})
        self.update(*args, **kwargs)

    def _start(self, origins: dict[Any, Origin]) -> None:
        # Not through addict's __setattr__, which would make a key of it.
        self.__dict__["_origins"] = origins

    def source_of(self, key: Any) -> str:
        """`file:line` that set the key last, or the name of another source, such as '--cfg-options'.

        Without either, a key is 'set in code' in a mapping that has keys from elsewhere, so that no file is blamed for
        it, and '' in a mapping that is all code.
        """
        origin = self._origins.get(key)
        return origin.place if origin else IN_CODE if self._origins and key in self else ""

    def to_dict(self) -> dict[Any, Any]:
        """Plain dicts all the way down; lists, tuples and sets are copied."""
        return {key: plain(value) for key, value in self.items()}

    def _put(self, key: Any, value: Any, origin: Origin | None) -> None:
        """Sets a key to a value that is a tree already, and keeps what the key went through before."""
        if origin and key in self:
            origin = Origin(origin.place, self[key], self._origins.get(key))
        dict.__setitem__(self, key, value)
        if origin:
            self._origins[key] = origin

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            # Python itself asks for names with underscores; only a user needs the nearest one.
            near = "" if name.startswith("__") else nearest(name, self)
            raise AttributeError(f"the config has no {name!r}{near}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is a member of {type(self).__name__}: write cfg[{name!r}] = ...")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.__getattr__(name)
        del self[name]

    def __setitem__(self, key: Any, value: Any) -> None:
        if key in _CURES:
            raise ConfigError(f"{key} cannot be set as a key; {_CURES[key]}")
        tree = value if isinstance(value, ConfigDict) or type(value) is str else as_tree(value)
        old, before = self.get(key), self._origins.get(key)
        super().__setitem__(key, tree)
        # Only the first time: a loop must not pile up all that it ever set.
        if before and before.place != IN_CODE and tree is not old:
            self._origins[key] = Origin(IN_CODE, old, before)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self._origins.pop(key, None)

    def pop(self, key: Any, *default: Any) -> Any:
        """Removes a key and returns its value, or the default where there is none."""
        value = super().pop(key, *default)
        self._origins.pop(key, None)
        return value

    def popitem(self) -> tuple[Any, Any]:
        """Removes the last key, and returns it with its value."""
        key, value = super().popitem()
        self._origins.pop(key, None)
        return key, value

    def clear(self) -> None:
        """Removes every key."""
        super().clear()
        self._origins.clear()

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of the key, which is set where it is missing; as it is stored: changing it changes the config."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Sets keys as a file does: a mapping over a mapping is merged, unless it says `_delete_=True`."""
        given: ConfigDict = as_tree(dict(*args, **kwargs))
        if given._deletes:
            self.clear()
        self._take_in(given)

    def _take_in(self, given: ConfigDict) -> None:
        for key, value in given.items():
            if isinstance(value, ConfigDict) and isinstance(self.get(key), ConfigDict) and not value._deletes:
                self[key]._take_in(value)
            else:
                self[key] = value

    def __missing__(self, key: Any) -> Any:
        raise KeyError(key)

    def __copy__(self) -> Any:
        return self._like(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = twin = self._like({})
        dict.update(twin, {key: copy.deepcopy(value, memo) for key, value in self.items()})
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _restore, (type(self), dict(self), dict(self.__dict__))

    def __or__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, Mapping) else self._joined(self, other)

    def __ror__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, Mapping) else self._joined(other, self)

    def _joined(self, first: Any, second: Any) -> ConfigDict:
        joined: ConfigDict = as_tree(first)
        joined.update(second)
        return joined

    def _like(self, items: Mapping[Any, Any]) -> Any:
        return _restore(type(self), items, {**self.__dict__, "_origins": dict(self._origins)})


# What addict sets on every instance, here once for all; `freeze` overrides it.
setattr(ConfigDict, "__frozen", False)


def _restore(cls: type[ConfigDict], items: Mapping[Any, Any], state: dict[str, Any]) -> ConfigDict:
    node: ConfigDict = cls.__new__(cls)
    node.__dict__.update(state)
    dict.update(node, items)
    return node


def plain(value: Any) -> Any:
    """A value with plain dicts all the way down; lists, tuples and sets are copied."""
    if isinstance(value, ConfigDict):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return set(value) if isinstance(value, set) else value


def as_tree(value: Any, *, file: str = "", budget: Budget | None = None, data_only: bool = False) -> Any:
    """A copy of a value as a config holds it: a tree, no part of which is shared with anything.

    Every mapping becomes a ConfigDict with the origins of its keys. A `_delete_` becomes a mark on its node, so that
    it never is a key.

    Args:
        value: What to copy; a `Traced` gives the lines of its keys, and of the plain dicts below them.
        file: The file that those lines are in.
        budget: What the load may still spend; None starts a new one.
        data_only: Whether to refuse what no config file can hold; otherwise foreign objects are kept as they are.

    Raises:
        ConfigError: The value contains itself, is too deep or too large, or is no data.
    """
    try:
        return _TreeCopy(file, budget or Budget(), data_only).copy(value, 0)
    except Refused as error:
        raise ConfigError(str(error)) from None


class _TreeCopy:
    def __init__(self, file: str, budget: Budget, data_only: bool) -> None:
        self.file, self.budget, self.data_only = file, budget, data_only
        self.known: dict[int, Origin] = {}
        self.around: Origin | None = None

    def copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            # The same text may be in many places: writing it out must stay affordable.
            self.budget.spend(1 + (len(value) >> 4))
            return value
        if kind is bool or kind is float or value is None:
            return value
        if kind is int:
            self.budget.spend(value.bit_length() >> 6)
            return check_int(value)
        if depth > MAX_DEPTH:
            raise Refused(f"a value contains itself, or is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return self.mapping(value, depth + 1)
        if isinstance(value, (list, tuple, range)):
            self.budget.spend(1 + len(value))
            items = [self.copy(item, depth + 1) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, (set, frozenset)):
            self.budget.weigh(value)
            return set(map(_without_numpy, value))
        number = _without_numpy(value)
        if number is not value:
            return self.copy(number, depth)
        if self.data_only:
            raise Refused(f"{type_name(value)} is no config data; write numbers, strings, lists, tuples or dicts")
        return value

    def mapping(self, value: Mapping[Any, Any], depth: int) -> ConfigDict:
        self.budget.spend(1 + len(value))
        node: ConfigDict = ConfigDict.__new__(ConfigDict)
        origins = self.origins_of(value)
        node._start(origins)
        set_item, copy_item, traced = dict.__setitem__, self.copy, type(value) is Traced
        for key, item in value.items():
            if key == DELETE_KEY:
                if not isinstance(item, bool):
                    raise ConfigError(f"{DELETE_KEY} must be True or False, got {item!r}", source=node.source_of(key))
                node.__dict__["_deletes"] = item
            else:
                if traced:
                    self.around = origins.get(key)
                try:
                    set_item(node, key, copy_item(item, depth))
                except Refused as error:
                    if depth > 1:
                        raise
                    raise ConfigError(str(error), (key,), node.source_of(key)) from None
        return node

    def origins_of(self, value: Mapping[Any, Any]) -> dict[Any, Origin]:
        if isinstance(value, ConfigDict):
            return dict(value._origins)
        known = self.known
        if isinstance(value, Traced):
            origins = {}
            for key, line in value.lines.items():
                if not isinstance(line, int):
                    origins[key] = line
                elif line in known:
                    origins[key] = known[line]
                else:
                    origins[key] = known[line] = Origin(f"{self.file}:{line}")
            return origins
        return dict.fromkeys(value, self.around) if self.around else {}


def _without_numpy(value: Any) -> Any:
    """A Python number or string for a scalar of NumPy's, which no file can hold; anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        scalar = value.item()
        return scalar if type(scalar) in (bool, int, float, str) else value
    return value


def nearest(name: Any, keys: Iterable[Any]) -> str:
    """The clause that names the nearest key; comparing long texts takes too long, and helps nobody."""
    short = [key for key in keys if isinstance(key, str) and len(key) < 100]
    return did_you_mean(name, short) if len(str(name)) < 100 else ""


def type_name(value: Any) -> str:
    """The type of a value in the words of a config file, with its article."""
    name = "dict" if isinstance(value, dict) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
