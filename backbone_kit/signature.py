"""Arguments checked against the signature that will receive them, before anything is built.

A constructor's annotations are the schema of its config. Beside the plain ones, three forms carry more: a `Literal`
lists the allowed values, a `TypedDict` the keys of a nested entry, and `Annotated[Mapping[str, Any], NORM_LAYERS]` says
that the value is itself a config, checked by that registry, or by anything else that has
`check(value, path) -> list[Problem]`.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from .errors import Path, Problem, did_you_mean

_FORWARDED = object()
_NUMBERS: dict[Any, tuple[tuple[type, ...], str]] = {  # the plain types first: asking an ABC takes longer
    int: ((int, numbers.Integral), "an int"),
    float: ((float, int, numbers.Real), "a number"),
}


@functools.cache
def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters that a config can set, with evaluated annotations.

    Where a class forwards `**kwargs`, those of its parents' constructors belong to it too (nearest class first); the
    class may set them itself, so that none of them counts as required; those that it lists in `settled` it always sets
    itself, and a config cannot. A remaining `**kwargs` (a function's, or the root class's) is part of the result.
    """
    found: dict[str, inspect.Parameter] = {}
    settled = ("self", *getattr(target, "settled", ()))
    for depth, function in enumerate(_constructors(target)):
        try:
            hints = get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError):  # annotations meant for a type checker alone
            hints = {}
        open_ended = False
        for name, parameter in _signature(function).parameters.items():
            open_ended |= parameter.kind is parameter.VAR_KEYWORD
            if name not in settled and parameter.kind is not parameter.VAR_POSITIONAL:
                if depth and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                    parameter = parameter.replace(default=_FORWARDED)
                found.setdefault(name, parameter.replace(annotation=hints.get(name, Any)))
        if not open_ended:
            return {n: p for n, p in found.items() if p.kind is not p.VAR_KEYWORD}
    return found


def _constructors(target: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(target, type):
        return [target]
    return [cls.__dict__["__init__"] for cls in target.__mro__[:-1] if "__init__" in cls.__dict__] or [lambda: None]


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # compiled, and silent about its arguments
        return inspect.signature(lambda **arguments: None)


def check_arguments(
    target: Callable[..., Any], given: Mapping[str, Any], path: Path = (), supplied: Collection[str] = ()
) -> list[Problem]:
    """Everything that is wrong with calling `target(**given)`.

    Args:
        target: A class or function.
        given: Arguments by name, as a config has them.
        path: Where `given` stands in the whole config.
        supplied: Names that the caller of `target` adds by itself: never missing.
    """
    known = parameters(target)
    problems: list[Problem] = []
    for name, value in given.items():
        parameter = known.get(name)
        if parameter is None or parameter.kind is parameter.VAR_KEYWORD:
            if not takes_any(target):
                settable = [key for key in known if key not in supplied]
                hint = did_you_mean(name, settable) or f"; it has: {', '.join(settable) or 'none'}"
                problems.append(Problem(f"{_name(target)} has no argument {name!r}{hint}", (*path, name)))
        elif value is not parameter.default:
            problems += check_value(value, parameter.annotation, (*path, name))
    for name in _required(target):
        if name not in given and name not in supplied:
            problems.append(Problem(f"{name!r} is missing; {_name(target)} needs it", path))
    return problems


@functools.cache
def takes_any(target: Callable[..., Any]) -> bool:
    """Whether `target` takes arguments of any name."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters(target).values())


@functools.cache
def _required(target: Callable[..., Any]) -> tuple[str, ...]:
    known = parameters(target).items()
    return tuple(name for name, p in known if p.default is p.empty and p.kind is not p.VAR_KEYWORD)


def _name(target: Callable[..., Any]) -> str:
    return getattr(target, "__name__", repr(target))


def check_value(value: Any, annotation: Any, path: Path) -> list[Problem]:
    """Everything that keeps `value` from being what `annotation` says; an annotation not known here accepts all."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        checker = next((extra for extra in arguments[1:] if hasattr(extra, "check")), None)
        return checker.check(value, path) if checker is not None else check_value(value, arguments[0], path)
    if origin in (Union, types.UnionType):
        return _check_union(value, annotation, arguments, path)
    if is_typeddict(annotation):
        return _check_entry(value, annotation, path)
    if _is_sequence(annotation) and isinstance(value, (list, tuple, range)):
        return _check_items(value, arguments, path)
    if origin is Literal:
        if any(value == choice and isinstance(value, bool) is isinstance(choice, bool) for choice in arguments):
            return []
        allowed = " or ".join(repr(choice) for choice in arguments)
        near = did_you_mean(value, [c for c in arguments if isinstance(c, str)]) if isinstance(value, str) else ""
        return [Problem(f"must be {allowed}, got {value!r}{near}", path)]
    if _fits(value, annotation):
        return []
    return [Problem(f"must be {_describe(annotation)}, got {_shown(value)}", path)]


def _check_union(value: Any, annotation: Any, options: tuple[Any, ...], path: Path) -> list[Problem]:
    findings = []
    for option in options:
        findings.append(check_value(value, option, path))
        if not findings[-1]:
            return []
    deeper = [f for f, option in zip(findings, options, strict=True) if _same_kind(value, option)]
    return deeper[0] if deeper else [Problem(f"must be {_describe(annotation)}, got {_shown(value)}", path)]


def _same_kind(value: Any, option: Any) -> bool:
    """Whether `value` is of the container kind that `option` asks for, so that what is wrong is inside it."""
    if get_origin(option) is Annotated:
        option = get_args(option)[0]
    if get_origin(option) is Literal:
        return isinstance(value, str)
    if isinstance(value, Mapping):
        return is_typeddict(option) or get_origin(option) in (Mapping, dict)
    return isinstance(value, (list, tuple)) and _is_sequence(option)


def _check_entry(value: Any, annotation: Any, path: Path) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(f"must be a dict with {_listed(annotation.__annotations__)}, got {_shown(value)}", path)]
    hints = get_type_hints(annotation, include_extras=True)
    problems: list[Problem] = []
    for key, item in value.items():
        if key in hints:
            problems += check_value(item, _without_marker(hints[key]), (*path, key))
        else:
            hint = did_you_mean(key, hints) or f"; allowed: {_listed(hints)}"
            problems.append(Problem(f"unknown key {key!r}{hint}", (*path, key)))
    missing = [key for key in hints if key not in value and _is_required(key, hints[key], annotation)]
    return problems + [Problem(f"{key!r} is missing; allowed: {_listed(hints)}", path) for key in missing]


def _marker(annotation: Any) -> str:
    name = getattr(get_origin(annotation), "_name", None)
    return name if name in ("Required", "NotRequired") else ""


def _without_marker(annotation: Any) -> Any:
    """`Required[X]` and `NotRequired[X]` as X."""
    return get_args(annotation)[0] if _marker(annotation) else annotation


def _is_required(key: str, annotation: Any, entry: Any) -> bool:
    """As the marker says, which `__required_keys__` does not see where annotations are strings."""
    marker = _marker(annotation)
    return marker == "Required" if marker else key in entry.__required_keys__


def _check_items(value: Sequence[Any], arguments: tuple[Any, ...], path: Path) -> list[Problem]:
    if not arguments:
        return []
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = arguments[:1]
    elif len(arguments) > 1 and len(arguments) != len(value):
        return [Problem(f"must have {len(arguments)} items, got {_shown(value)}", path)]
    kinds = arguments * len(value) if len(arguments) == 1 else arguments
    return [
        p for i, (item, kind) in enumerate(zip(value, kinds, strict=True)) for p in check_value(item, kind, (*path, i))
    ]


def _is_sequence(annotation: Any) -> bool:
    return (get_origin(annotation) or annotation) in (Sequence, list, tuple)


def _fits(value: Any, annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    if kind in (None, type(None)):
        return value is None
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind][0]) and not isinstance(value, bool)
    if kind in (bool, str, dict):
        return isinstance(value, kind)
    if kind is Mapping:
        return isinstance(value, Mapping)
    if kind is Callable:
        return callable(value)
    return not _is_sequence(annotation)


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_describe(option) for option in arguments))
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if _is_sequence(annotation):
        kinds = [a for a in arguments if a is not ...]
        return f"a list ({_describe(kinds[0])} each)" if kinds else "a list"
    if is_typeddict(annotation) or (origin or annotation) in (Mapping, dict):
        return "a dict"
    names = {None: "None", type(None): "None", bool: "True or False", str: "a string", Callable: "a callable"}
    kind = origin or annotation
    return names.get(kind) or (_NUMBERS[kind][1] if kind in _NUMBERS else str(getattr(kind, "__name__", kind)))


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
