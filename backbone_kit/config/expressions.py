"""Expressions of `.py` configs: one small function for each kind of node, none of which executes anything."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, TypeVar

from .limits import MAX_BITS, Refused, check_int
from .mapping import BASE_KEY, nearest, type_name
from .origins import NOTHING, Traced
from .scope import TRUSTED_CURE, Opaque, Scope, check_key, iterate, read_key
from .template import MARK
from .text import formatted, percent, to_text

Handler = Callable[[Any, Scope], Any]
HandlerT = TypeVar("HandlerT", bound=Handler)
EXPRESSIONS: dict[type[ast.AST], Handler] = {}
CURES: dict[type[ast.AST], str] = {
    ast.Lambda: "write the value that it would return",
    ast.NamedExpr: "assign on a line of its own",
    ast.Await: "write the value",
    ast.Yield: "write a list",
    ast.YieldFrom: "write a list",
}


def evaluates(*kinds: type[ast.AST]) -> Callable[[HandlerT], HandlerT]:
    """Registers a function as the one that evaluates these kinds of nodes."""

    def register(handler: HandlerT) -> HandlerT:
        EXPRESSIONS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def evaluate(node: ast.expr, scope: Scope) -> Any:
    """The value of an expression."""
    handler = EXPRESSIONS.get(type(node))
    if handler is None:
        scope.line = node.lineno
        cure = CURES.get(type(node), "write a value")
        raise Refused(f"{type(node).__name__} is not evaluated in a config; {cure}, {TRUSTED_CURE}")
    return handler(node, scope)


@evaluates(ast.Constant)
def _constant(node: ast.Constant, scope: Scope) -> Any:
    value = node.value
    if scope.templates and isinstance(value, str) and MARK in value:
        scope.line = node.lineno
        return scope.templates.fill(value)
    return value


@evaluates(ast.Name)
def _name(node: ast.Name, scope: Scope) -> Any:
    value = scope.names.get(node.id, NOTHING)
    if value is NOTHING:
        scope.line = node.lineno
        if node.id == BASE_KEY and scope.base is not None:
            scope.base_used = True
            return scope.base
        if scope.base is None and scope.file:
            raise Refused(
                f"the name {node.id!r} has no value: {BASE_KEY} is read before the rest of the file; write it out"
            )
        near = nearest(node.id, scope.names)
        raise Refused(f"the name {node.id!r} has no value here{near or '; assign it above, or quote it'}")
    if isinstance(value, Opaque):
        scope.line = node.lineno
        raise Refused(f"{node.id!r} has no value: it is {value.why}; {value.cure}, {TRUSTED_CURE}")
    return value


@evaluates(ast.List)
def _list(node: ast.List, scope: Scope) -> list[Any]:
    return elements(node.elts, scope)


@evaluates(ast.Tuple)
def _tuple(node: ast.Tuple, scope: Scope) -> tuple[Any, ...]:
    return tuple(elements(node.elts, scope))


@evaluates(ast.Set)
def _set(node: ast.Set, scope: Scope) -> set[Any]:
    values = elements(node.elts, scope)
    scope.line = node.lineno
    return {check_key(value, scope) for value in values}


def elements(nodes: list[ast.expr], scope: Scope) -> list[Any]:
    """The values of a list display, or of the positional arguments of a call."""
    scope.budget.spend(1 + len(nodes))
    values: list[Any] = []
    for node in nodes:
        if type(node) is ast.Starred:
            starred = evaluate(node.value, scope)
            scope.line = node.lineno
            values.extend(iterate(starred, scope))
        else:
            values.append(evaluate(node, scope))
    return values


@evaluates(ast.Dict)
def _dict(node: ast.Dict, scope: Scope) -> Traced:
    scope.budget.spend(1 + len(node.keys))
    result = Traced()
    for key_node, value_node in zip(node.keys, node.values, strict=True):
        if key_node is None:
            given = evaluate(value_node, scope)
            scope.line = value_node.lineno
            take_in(result, given, scope)
            continue
        key = evaluate(key_node, scope)
        scope.line = key_node.lineno
        check_key(key, scope)
        result[key] = evaluate(value_node, scope)
        result.lines[key] = key_node.lineno
    return result


def take_in(result: Traced, given: Any, scope: Scope) -> None:
    """Copies the keys of a mapping, and where they were set, into a dict of this file."""
    if not isinstance(given, dict):
        raise Refused(f"a mapping is needed here, got {type_name(given)}")
    scope.budget.spend(1 + len(given))
    result.update(given)
    result.lines.update(given.lines if isinstance(given, Traced) else given._origins)  # type: ignore[attr-defined]


@evaluates(ast.Attribute)
def _attribute(node: ast.Attribute, scope: Scope) -> Any:
    value = evaluate(node.value, scope)
    scope.line = node.lineno
    if isinstance(value, dict):
        return read_key(value, node.attr, scope)
    raise Refused(f"{type_name(value)} has no attribute {node.attr!r}; only mappings have attributes in a config")


@evaluates(ast.Subscript)
def _subscript(node: ast.Subscript, scope: Scope) -> Any:
    value = evaluate(node.value, scope)
    key = evaluate(node.slice, scope)
    scope.line = node.lineno
    return read_key(value, key, scope)


@evaluates(ast.Slice)
def _slice(node: ast.Slice, scope: Scope) -> slice:
    return slice(*(part and evaluate(part, scope) for part in (node.lower, node.upper, node.step)))


@evaluates(ast.IfExp)
def _conditional(node: ast.IfExp, scope: Scope) -> Any:
    return evaluate(node.body if evaluate(node.test, scope) else node.orelse, scope)


@evaluates(ast.BoolOp)
def _and_or(node: ast.BoolOp, scope: Scope) -> Any:
    stops = isinstance(node.op, ast.Or)
    value: Any = None
    for part in node.values:
        value = evaluate(part, scope)
        if bool(value) is stops:
            break
    return value


_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}


@evaluates(ast.UnaryOp)
def _unary(node: ast.UnaryOp, scope: Scope) -> Any:
    value = evaluate(node.operand, scope)
    scope.budget.spend(1)
    scope.line = node.lineno
    return _UNARY[type(node.op)](value)


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


@evaluates(ast.Compare)
def _compare(node: ast.Compare, scope: Scope) -> bool:
    left = evaluate(node.left, scope)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = evaluate(right_node, scope)
        scope.line = node.lineno
        scope.budget.spend(1)
        scope.budget.weigh(left, right)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.RShift: operator.rshift,
}


@evaluates(ast.BinOp)
def _binary(node: ast.BinOp, scope: Scope) -> Any:
    left = evaluate(node.left, scope)
    right = evaluate(node.right, scope)
    scope.line = node.lineno
    return binary(node.op, left, right, scope)


def binary(op: ast.operator, left: Any, right: Any, scope: Scope) -> Any:
    """`left op right`, after asking how large the result will be."""
    operate = _BINARY.get(type(op))
    if operate is None:
        raise Refused(
            f"the operator {type(op).__name__} is not evaluated in a config; write the result, {TRUSTED_CURE}"
        )
    scope.budget.spend(1)
    if isinstance(op, ast.Mod) and isinstance(left, str):
        return percent(left, right, scope.budget)
    if isinstance(left, dict) and isinstance(right, dict) and isinstance(op, ast.BitOr):
        joined = Traced()
        take_in(joined, left, scope)
        take_in(joined, right, scope)
        return joined
    if not all(isinstance(side, (int, float, str, list, tuple, set)) for side in (left, right)):
        raise Refused(f"no arithmetic with {type_name(left)} and {type_name(right)}")
    _afford(op, left, right, scope)
    result = check_int(operate(left, right))
    if isinstance(result, complex):
        raise Refused("the root of a negative number is no config data")
    return result


def _afford(op: ast.operator, left: Any, right: Any, scope: Scope) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if isinstance(op, ast.Pow):
            bits = left.bit_length() * max(right, 0)
        if bits > 2 * MAX_BITS:
            raise Refused(f"an integer of about {bits:,} bits; {MAX_BITS:,} are allowed")
        return
    sizes = [len(side) if isinstance(side, (str, list, tuple, set)) else 0 for side in (left, right)]
    if isinstance(op, ast.Mult):
        times = left if isinstance(left, int) else right if isinstance(right, int) else 0
        sizes = [sum(sizes) * max(times, 0)]
    scope.budget.spend(sum(sizes))


@evaluates(ast.JoinedStr)
def _joined(node: ast.JoinedStr, scope: Scope) -> str:
    text = "".join([evaluate(part, scope) for part in node.values])
    scope.budget.spend(1 + len(text))
    return text


@evaluates(ast.FormattedValue)
def _formatted(node: ast.FormattedValue, scope: Scope) -> str:
    value = evaluate(node.value, scope)
    spec = evaluate(node.format_spec, scope) if node.format_spec else ""
    scope.line = node.lineno
    if node.conversion >= 0:
        value = to_text(value, scope.budget, chr(node.conversion))
    return formatted(value, spec, scope.budget)
