"""What assignments, augmented assignments, `del` and comprehensions bind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from .expressions import binary, evaluate, evaluates, take_in
from .limits import Refused
from .mapping import BASE_KEY, type_name
from .origins import NOTHING, Traced
from .scope import Scope, check_key, iterate, read_key, write_key


def store(target: ast.expr, value: Any, scope: Scope) -> None:
    """`target = value` for a name, an item, an attribute of a mapping, or a tuple of those."""
    scope.line = target.lineno
    if isinstance(target, ast.Name):
        _check_name(target)
        scope.names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)):
        _unpack(target.elts, value, scope)
    elif isinstance(target, (ast.Subscript, ast.Attribute)):
        container, key = _place(target, scope)
        write_key(container, key, value, scope, target.lineno)
    else:
        raise Refused(f"{type(target).__name__} cannot be assigned to in a config")


def _check_name(target: ast.Name) -> None:
    if target.id == BASE_KEY:
        raise Refused(
            f"{BASE_KEY} is said once, as {BASE_KEY} = 'path' or a list of paths; change what it holds by key"
        )


def _place(target: ast.Subscript | ast.Attribute, scope: Scope) -> tuple[Any, Any]:
    container = evaluate(target.value, scope)
    key = evaluate(target.slice, scope) if isinstance(target, ast.Subscript) else target.attr
    scope.line = target.lineno
    if isinstance(target, ast.Attribute) and not isinstance(container, dict):
        raise Refused(f"{type_name(container)} has no attributes; only mappings have them in a config")
    return container, key


def _unpack(targets: list[ast.expr], value: Any, scope: Scope) -> None:
    values = list(iterate(value, scope))
    starred = [index for index, target in enumerate(targets) if isinstance(target, ast.Starred)]
    if len(starred) > 1:
        raise Refused("only one name can take the rest with *")
    enough = len(values) >= len(targets) - 1 if starred else len(values) == len(targets)
    if not enough:
        raise Refused(f"{len(values)} values cannot be unpacked into {len(targets)} names")
    if starred:
        first, rest = starred[0], len(targets) - starred[0] - 1
        middle = values[first : len(values) - rest]
        values = [*values[:first], middle, *values[len(values) - rest :]]
    for target, item in zip(targets, values, strict=True):
        store(target.value if isinstance(target, ast.Starred) else target, item, scope)


def augment(node: ast.AugAssign, scope: Scope) -> None:
    """`target op= value`; a list is changed in place for `+=` and `*=`, and a dict for `|=`, as in Python."""
    target = node.target
    if isinstance(target, ast.Name):
        _check_name(target)
        old = evaluate(ast.copy_location(ast.Name(target.id), target), scope)
    else:
        container, key = _place(target, scope)
        old = read_key(container, key, scope)
    value = evaluate(node.value, scope)
    scope.line = node.lineno
    if isinstance(old, list) and isinstance(node.op, ast.Add):
        old.extend(list(iterate(value, scope)))
    elif isinstance(old, list) and isinstance(node.op, ast.Mult):
        old[:] = binary(node.op, old, value, scope)
    elif isinstance(old, Traced) and isinstance(node.op, ast.BitOr):
        take_in(old, value, scope)
    else:
        old = binary(node.op, old, value, scope)
    if isinstance(target, ast.Name):
        scope.names[target.id] = old
    else:
        write_key(container, key, old, scope, target.lineno)


def delete(target: ast.expr, scope: Scope) -> None:
    """`del target`."""
    if isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            delete(part, scope)
    elif isinstance(target, ast.Name):
        _check_name(target)
        evaluate(ast.copy_location(ast.Name(target.id), target), scope)
        del scope.names[target.id]
    elif isinstance(target, (ast.Subscript, ast.Attribute)):
        container, key = _place(target, scope)
        if not isinstance(container, list):
            read_key(container, key, scope)
        scope.budget.spend(1 + len(container) // 100)
        del container[key]


@evaluates(ast.ListComp)
def _list_comprehension(node: ast.ListComp, scope: Scope) -> list[Any]:
    return [evaluate(node.elt, scope) for _ in _rounds(node, scope)]


@evaluates(ast.GeneratorExp)
def _generator(node: ast.GeneratorExp, scope: Scope) -> Iterator[Any]:
    # Nothing has effects in between, so that it need not be lazy; it can be read once, as in Python.
    return iter([evaluate(node.elt, scope) for _ in _rounds(node, scope)])


@evaluates(ast.SetComp)
def _set_comprehension(node: ast.SetComp, scope: Scope) -> set[Any]:
    return {check_key(evaluate(node.elt, scope), scope) for _ in _rounds(node, scope)}


@evaluates(ast.DictComp)
def _dict_comprehension(node: ast.DictComp, scope: Scope) -> Traced:
    result = Traced()
    for _ in _rounds(node, scope):
        key = check_key(evaluate(node.key, scope), scope)
        result[key] = evaluate(node.value, scope)
        result.lines[key] = node.key.lineno
    return result


def _rounds(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: Scope) -> Iterator[None]:
    """Binds the loop variables for each element; what they hid comes back at the end."""
    targets = [part for generator in node.generators for part in ast.walk(generator.target)]
    hidden = {part.id: scope.names.get(part.id, NOTHING) for part in targets if isinstance(part, ast.Name)}
    yield from _loop(node.generators, scope)
    for name, value in hidden.items():
        if value is NOTHING:
            scope.names.pop(name, None)
        else:
            scope.names[name] = value


def _loop(generators: list[ast.comprehension], scope: Scope) -> Iterator[None]:
    if not generators:
        yield
        return
    first, *rest = generators
    values = evaluate(first.iter, scope)
    scope.line = first.iter.lineno
    for value in iterate(values, scope):
        store(first.target, value, scope)
        if all(evaluate(test, scope) for test in first.ifs):
            yield from _loop(rest, scope)
