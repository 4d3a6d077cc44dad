"""The calls that a `.py` config may make: pure functions, and methods of dicts, lists and strings."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import did_you_mean
from .expressions import binary, elements, evaluate, evaluates, take_in
from .limits import MAX_WIDTH, Refused
from .mapping import DELETE_KEY, ConfigDict, type_name
from .origins import Traced
from .scope import (
    TRUSTED_CURE,
    Opaque,
    Scope,
    check_key,
    dotted_name,
    iterate,
    read_key,
    write_key,
)
from .text import format_method, to_text


@evaluates(ast.Call)
def _call(node: ast.Call, scope: Scope) -> Any:
    function = node.func
    name = dotted_name(function)
    bound = scope.names.get(name.partition(".")[0])
    if isinstance(bound, Opaque):
        return _call_function(f"{bound.path}{name[len(name.partition('.')[0]) :]}", node, scope, bound.why)
    if isinstance(function, ast.Attribute):
        owner = evaluate(function.value, scope)
        return _call_method(owner, function.attr, node, scope)
    if isinstance(function, ast.Name) and name not in scope.names:
        return call_dict(node, scope) if name == "dict" else _call_function(name, node, scope)
    value = evaluate(function, scope)
    scope.line = node.lineno
    raise Refused(f"{type_name(value)} cannot be called")


def _call_function(name: str, node: ast.Call, scope: Scope, why: str = "") -> Any:
    scope.line = node.lineno
    function = FUNCTIONS.get(name)
    # copy.copy is known as an import only, and range is not where an import hides it.
    if function is None or ("." in name) != bool(why):
        known = ", ".join(sorted({"dict", *FUNCTIONS}))
        what = f"{name}() is not called: it is {why}" if why else f"{name}() is not called in a config"
        raise Refused(f"{what}; write its result, {TRUSTED_CURE} (calls that are evaluated: {known})")
    return _apply(function, name, node, scope)


def _apply(function: Callable[..., Any], name: str, node: ast.Call, scope: Scope, *owner: Any) -> Any:
    args = elements(node.args, scope)
    kwargs = call_dict(ast.Call(node.func, [], node.keywords), scope) if node.keywords else {}
    scope.line = node.lineno
    try:
        return function(scope, *owner, *args, **kwargs)
    except TypeError:
        try:
            inspect.signature(function).bind(scope, *owner, *args, **kwargs)
        except TypeError:
            # What Python says is about our function, which nobody called.
            raise Refused(f"{name}() does not take these arguments") from None
        raise


def call_dict(node: ast.Call, scope: Scope) -> Traced:
    """`dict(...)`, and what other calls take in the same form."""
    scope.budget.spend(1 + len(node.keywords))
    result = Traced()
    if node.args:
        _positional(result, elements(node.args, scope), node, scope)
    lines = result.lines
    given: set[Any] = set()
    for keyword in node.keywords:
        name, value = keyword.arg, evaluate(keyword.value, scope)
        if name is None:
            scope.line = keyword.value.lineno
            if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
                raise Refused(f"** needs a dict with string keys, got {type_name(value)}")
            _once(given, value)
            take_in(result, value, scope)
        else:
            if name in given:
                scope.line = keyword.lineno
                _once(given, (name,))
            given.add(name)
            result[name] = value
            lines[name] = keyword.lineno
    return result


def _once(given: set[Any], names: Iterable[Any]) -> None:
    twice = next((name for name in names if name in given), None)
    if twice is not None:
        raise Refused(
            f"the keyword {twice!r} is given twice; write {{**first, {twice!r}: ...}} if the later one shall win"
        )
    given.update(names)


def _positional(result: Traced, args: list[Any], node: ast.Call, scope: Scope) -> None:
    scope.line = node.lineno
    if len(args) > 1:
        raise Refused(f"at most one positional argument is possible here, got {len(args)}")
    if isinstance(args[0], dict):
        take_in(result, args[0], scope)
        return
    for pair in iterate(args[0], scope):
        key, value = pair
        result[check_key(key, scope)] = value
        result.lines[key] = node.lineno


def _call_method(owner: Any, name: str, node: ast.Call, scope: Scope) -> Any:
    kind = next((kind for kind in (dict, list, str) if isinstance(owner, kind)), None)
    method = METHODS.get((kind, name))
    if method is None:
        scope.line = node.lineno
        known = [known for owner_kind, known in METHODS if owner_kind is kind]
        rest = f"; its methods are {', '.join(known)}" if known else ""
        raise Refused(f"{name}() of {type_name(owner)} is not called in a config{did_you_mean(name, known) or rest}")
    if name == "update":
        given = call_dict(node, scope)
        scope.line = node.lineno
        _update(owner, given, node, scope)
        return None
    return _apply(method, name, node, scope, owner)


def _update(owner: Any, given: Traced, node: ast.Call, scope: Scope) -> None:
    """Mappings of `_base_` are updated key by key, all the way down, as they are in MMEngine; own dicts at the top."""
    if isinstance(owner, ConfigDict) and given.pop(DELETE_KEY, False):
        owner.clear()
    for key, value in given.items():
        line = given.lines.get(key)
        here = isinstance(line, int) and node.lineno <= line <= (node.end_lineno or line)
        if isinstance(owner, ConfigDict) and isinstance(value, dict) and isinstance(owner.get(key), ConfigDict):
            inner = Traced()
            take_in(inner, value, scope)
            _update(owner[key], inner, node, scope)
        else:
            write_key(owner, key, value, scope, line if here and isinstance(line, int) else node.lineno)


def _pop(scope: Scope, owner: Any, key: Any = -1, *default: Any) -> Any:
    if isinstance(owner, list):
        scope.budget.spend(1 + len(owner) // 100)
        return owner.pop(key, *default)
    return owner.pop(key) if check_key(key, scope) in owner else default[0] if default else read_key(owner, key, scope)


def _copy(scope: Scope, value: Any) -> Any:
    if isinstance(value, Traced):
        twin = Traced()
        take_in(twin, value, scope)
        return twin
    if isinstance(value, (list, set, dict)):
        scope.budget.spend(1 + len(value))
    return copy.copy(value)


def _deepcopy(scope: Scope, value: Any) -> Any:
    scope.budget.weigh(value)
    return copy.deepcopy(value)


def _extend(scope: Scope, owner: list[Any], values: Any) -> None:
    owner.extend(list(iterate(values, scope)))


def _insert(scope: Scope, owner: list[Any], index: int, value: Any) -> None:
    scope.budget.spend(1 + len(owner) // 100)
    owner.insert(index, value)


def _get(scope: Scope, owner: dict[Any, Any], key: Any, default: Any = None) -> Any:
    return owner.get(check_key(key, scope), default)


METHODS: dict[tuple[type | None, str], Callable[..., Any]] = {
    (dict, "update"): _update,
    (dict, "pop"): _pop,
    (dict, "get"): _get,
    (dict, "copy"): _copy,
    (dict, "keys"): lambda scope, owner: owner.keys(),
    (dict, "values"): lambda scope, owner: owner.values(),
    (dict, "items"): lambda scope, owner: owner.items(),
    (list, "append"): lambda scope, owner, value: owner.append(value),
    (list, "extend"): _extend,
    (list, "insert"): _insert,
    (list, "pop"): _pop,
    (list, "copy"): _copy,
    (str, "format"): lambda scope, owner, *args, **kwargs: format_method(owner, scope.budget, args, kwargs),
}


def _collecting(build: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda scope, values=(): build(iterate(values, scope))


def _comparing(function: Callable[..., Any]) -> Callable[..., Any]:
    def compare(scope: Scope, *args: Any, **kwargs: Any) -> Any:
        values = list(iterate(args[0], scope)) if len(args) == 1 else list(args)
        scope.budget.weigh(values)
        return function(values, **kwargs)

    return compare


def _range(scope: Scope, *args: int) -> range:
    numbers = range(*args)
    scope.budget.spend(len(numbers))
    return numbers


def _sum(scope: Scope, values: Any, start: Any = 0) -> Any:
    total = start
    for value in iterate(values, scope):
        total = binary(ast.Add(), total, value, scope)
    return total


def _round(scope: Scope, number: float, ndigits: int | None = None) -> Any:
    if ndigits is not None and abs(ndigits) > MAX_WIDTH // 10:
        raise Refused(f"rounding to {ndigits} digits; {MAX_WIDTH // 10} are the most")
    return round(number, ndigits)


def _int(scope: Scope, value: Any = 0, *base: int) -> int:
    if isinstance(value, str) and len(value) > 4300:
        raise Refused(f"an integer of {len(value)} digits; 4300 are the most")
    return int(value, *base)


def _float(scope: Scope, value: Any = 0.0) -> float:
    scope.budget.weigh(value)
    return float(value)


def _set(scope: Scope, values: Any = ()) -> set[Any]:
    return {check_key(value, scope) for value in iterate(values, scope)}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "list": _collecting(list),
    "tuple": _collecting(tuple),
    "set": _set,
    "len": lambda scope, value: len(value),
    "range": _range,
    "enumerate": lambda scope, values, start=0: enumerate(iterate(values, scope), start),
    "zip": lambda scope, *values, strict=False: zip(*(iterate(value, scope) for value in values), strict=strict),
    "sum": _sum,
    "min": _comparing(min),
    "max": _comparing(max),
    "sorted": _comparing(sorted),
    "abs": lambda scope, number: abs(number),
    "round": _round,
    "int": _int,
    "float": _float,
    "str": lambda scope, value="": to_text(value, scope.budget),
    "bool": lambda scope, value=False: bool(value),
    "copy.copy": _copy,
    "copy.deepcopy": _deepcopy,
}
