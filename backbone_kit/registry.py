"""Names to classes, and one dict to one object: `Registry` and `build_from_cfg`.

A registry is flat: no scopes, no parents, no search in the caller's frame. A config is checked whole, against the
signature of what it names, before anything is built; the given dict is never touched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, TypeVar, overload

from .errors import CheckpointError, ConfigError, Path, Problem, did_you_mean
from .signature import check_arguments, check_value, parameters

T = TypeVar("T", bound=Callable[..., Any])

_CUTOFF = 0.75
"""How near a name must be to be meant: names of nets share most of their letters, and CSPNeXt is no typo of ResNeXt."""
_Flat = tuple[tuple[Any, type, Any], ...]
_PLAIN = frozenset((str, int, float, bool, type(None)))


class Registry:
    """What can be built under which name.

    Args:
        name: What the entries are, in the singular, as messages say it: 'backbone', 'norm layer'.
        supplied: Arguments that the builder of these entries adds by itself, so that a config need not have them.
        options: Keys of a config that the builder itself acts on, with their types; no entry sees them.

    Examples:
        >>> NECKS = Registry('neck')
        >>> @NECKS.register_module()
        ... class Sum:
        ...     def __init__(self, channels: int): self.channels = channels
        >>> NECKS.build(dict(type='Sum', channels=256)).channels
        256
    """

    def __init__(self, name: str, *, supplied: Collection[str] = (), options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.supplied = tuple(supplied)
        self.options = dict(options or {})
        self._entries: dict[str, Callable[..., Any]] = {}
        self._is_sound = lru_cache(1024)(self._check_flat)  # nets build hundreds of layers from one config

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.name!r}: {', '.join(self) or 'empty'})"

    def get(self, name: str) -> Callable[..., Any] | None:
        """The entry of that name, None where there is none."""
        return self._entries[name] if name in self else None

    @property
    def module_dict(self) -> Mapping[str, Callable[..., Any]]:
        """All entries by name, to be read, not changed."""
        return MappingProxyType(self._entries)

    @overload
    def register_module(self, name: T) -> T: ...

    @overload
    def register_module(self, name: str | Sequence[str] | None = None, force: bool = False, *, module: T) -> T: ...

    @overload
    def register_module(
        self, name: str | Sequence[str] | None = None, force: bool = False, module: None = None
    ) -> Callable[[T], T]: ...

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        """Registers a class or function, as a decorator (with or without parentheses) or as a call.

        Args:
            name: The name or names, by default the class's own.
            force: Whether to replace an entry of the same name.
            module: What to register, where this is not used as a decorator.

        Returns:
            The class as it was, or the decorator.

        Raises:
            ConfigError: A name is taken (the message says by what, and where that is) or is not a string. Nothing is
                registered then, also of several names.
        """
        if callable(name) and not isinstance(name, str):  # @register_module without parentheses
            name, module = None, name
        if module is None:
            return lambda decorated: self.register_module(name, force, module=decorated)
        if not callable(module):
            raise ConfigError(f"only classes and functions can be registered as {self.name}, got {module!r}")
        if name is None:
            name = getattr(module, "__name__", None)
        names = list(name) if isinstance(name, (list, tuple)) else [name]
        for each in names:
            if not isinstance(each, str):
                raise ConfigError(f"{self.name}: a name must be a string, got {each!r}; pass name='...'")
            if each in self and not force:
                raise ConfigError(
                    f"{self.name} {each!r} is already registered: {_where(self._entries[each])}; "
                    "choose another name, or replace it with force=True"
                )
        self._entries.update(dict.fromkeys(names, module))
        self._is_sound.cache_clear()
        return module

    def build(self, cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None) -> Any:
        """`build_from_cfg` with this registry."""
        return build_from_cfg(cfg, self, default_args)

    def check(self, cfg: Any, path: Path = (), beside: Collection[str] = ()) -> list[Problem]:
        """Everything that is wrong with `cfg`, without building it; [] when it can be built.

        Args:
            cfg: A config: `type` and the arguments of what it names.
            path: Where `cfg` stands in the whole config, for the messages.
            beside: Arguments that come from elsewhere this time, so that `cfg` need not have them.
        """
        flat = _flat(cfg)
        return [] if flat is not None and self._is_sound(flat, tuple(beside)) else self._problems(cfg, path, beside)

    def _check_flat(self, flat: _Flat, beside: tuple[str, ...]) -> bool:
        return not self._problems({key: value for key, _, value in flat}, (), beside)

    def _problems(self, cfg: Any, path: Path, beside: Collection[str]) -> list[Problem]:
        """What `check` tells, looked for anew; for registries with rules of their own."""
        if not isinstance(cfg, Mapping):
            return [Problem(f"must be a dict with 'type', got {cfg!r} ({type(cfg).__name__})", path)]
        if "type" not in cfg:
            return [Problem(f"'type' is missing: which {self.name}{_among(self)}", path)]
        target = self._target(cfg["type"])
        if isinstance(target, str):
            return [Problem(target, (*path, "type"))]
        problems: list[Problem] = []
        arguments = {key: value for key, value in cfg.items() if key != "type"}
        for key, annotation in self.options.items():
            if key in arguments:
                problems += check_value(arguments.pop(key), annotation, (*path, key))
        return problems + check_arguments(target, arguments, path, (*self.supplied_to(target, cfg), *beside))

    def supplied_to(self, target: Callable[..., Any], cfg: Mapping[str, Any]) -> tuple[str, ...]:
        """The arguments that the builder adds by itself to `cfg`, whose type is `target`."""
        return self.supplied

    def construct(self, cfg: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Builds `cfg` with arguments that its builder supplies; what a layer's builder calls.

        Args:
            cfg: A config; never modified.
            *args: Positional arguments for what `type` names.
            **kwargs: Arguments that the config must not set itself.

        Raises:
            ConfigError: As `build_from_cfg`.
        """
        problems = self.check(cfg, beside=kwargs)
        target: Any = self._target(cfg.get("type")) if isinstance(cfg, Mapping) else None
        supplied = {**dict(zip(_positional(target), args, strict=False)), **kwargs} if callable(target) else {}
        problems += [
            Problem(f"is set by the layer that uses this {self.name}, to {value!r}; remove it", (key,))
            for key, value in supplied.items()
            if key in cfg
        ]
        if problems:
            raise ConfigError([_located(problem, cfg) for problem in problems])
        arguments = {key: _copied(value) for key, value in cfg.items() if key != "type" and key not in self.options}
        name = getattr(target, "__name__", repr(target))
        try:
            return target(*args, **arguments, **kwargs)
        except ConfigError as error:
            named = [replace(problem, message=f"{name}: {problem.message}") for problem in error.problems]
            raise ConfigError([_located(problem, cfg) for problem in named]) from error.__cause__
        except (CheckpointError, ImportError, MemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ConfigError(_located(Problem(f"{name}: {reason}"), cfg)) from error

    def _target(self, kind: Any) -> Callable[..., Any] | str:
        """What `type` stands for, or what is wrong with it."""
        if isinstance(kind, str):
            if kind in self._entries:
                return self._entries[kind]
            module, _, name = kind.rpartition(".")
            hint = f"; an import path needs custom_imports=dict(imports=[{module!r}])" if module else ""
            return f"unknown {self.name} {kind!r}{did_you_mean(name, self, _CUTOFF) or _among(self)}{hint}"
        return kind if callable(kind) else f"must be a registered {self.name} or a class, got {kind!r}"


def build_from_cfg(cfg: Mapping[str, Any], registry: Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds what `cfg['type']` names in `registry`, with the other keys as arguments.

    Args:
        cfg: `type` (a registered name, or a class) and arguments. Never modified, at any depth.
        registry: Where the name is looked up.
        default_args: Arguments, `type` included, that `cfg` may leave out.

    Raises:
        ConfigError: The name is unknown, or arguments are unknown, missing or of the wrong type: all of that in one
            message, before anything is built. What the constructor itself refuses follows with the class in front.

    Examples:
        >>> from backbone_kit import BACKBONES
        >>> build_from_cfg(dict(type='ResNet', dept=50), BACKBONES)
        Traceback (most recent call last):
        ...
        backbone_kit.errors.ConfigError: 2 problems:
          dept: ResNet has no argument 'dept'; did you mean 'depth'?
          'depth' is missing; ResNet needs it
    """
    if not isinstance(registry, Registry):
        raise ConfigError(f"registry must be a Registry, got {registry!r}")
    if default_args is not None and not isinstance(default_args, Mapping):
        raise ConfigError(f"default_args must be a dict, got {default_args!r} ({type(default_args).__name__})")
    if not default_args or not isinstance(cfg, Mapping):
        return registry.construct(cfg)
    try:
        return registry.construct({**default_args, **cfg})
    except ConfigError as error:  # the merged dict knows no lines
        raise ConfigError([_located(problem, cfg) for problem in error.problems]) from error.__cause__


def _located(problem: Problem, cfg: Any) -> Problem:
    """The problem with the `file:line` that the config's own mapping knows for its path, unless it has one."""
    if problem.source:
        return problem
    source, node = "", cfg
    for part in problem.path:
        if isinstance(node, Mapping) and part in node:
            source = _source(node, part) or source
        elif not (isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)):
            break
        node = node[part]
    if isinstance(cfg, Mapping) and not (problem.path and problem.path[0] in cfg):  # of what is not there: the whole
        source = next((_source(cfg, key) for key in ("type", *cfg) if key in cfg), "")
    return replace(problem, source=source)


def _source(node: Mapping[Any, Any], key: Any) -> str:
    source_of = getattr(type(node), "source_of", None)
    return source_of(node, key) if source_of else ""


@cache
def _positional(target: Callable[..., Any]) -> tuple[str, ...]:
    """The names that `target` has for positional arguments."""
    return tuple(name for name, p in parameters(target).items() if p.kind is p.POSITIONAL_OR_KEYWORD)


def _flat(cfg: Any) -> _Flat | None:
    """A config of plain values by these values, each with its type, since True is 1; None for any other."""
    if isinstance(cfg, (dict, Mapping)) and all(type(value) in _PLAIN for value in cfg.values()):
        return tuple((key, type(value), value) for key, value in cfg.items())
    return None


def _copied(value: Any) -> Any:
    """Containers anew, leaves as they are: what a constructor does to its arguments stays with it."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _among(registry: Registry) -> str:
    return f"; registered: {', '.join(sorted(registry)) or 'none'}"


def _where(target: Callable[..., Any]) -> str:
    try:
        place = f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}"
        return f"{target.__module__}.{target.__qualname__} in {place}"
    except (TypeError, OSError, AttributeError):
        return repr(target)
