"""What the evaluator of `.py` configs knows while it runs: names, file, line, budget."""

from __future__ import annotations

import ast
from typing import Any

from .limits import Budget, Refused
from .mapping import ConfigDict, as_tree, nearest, type_name
from .origins import Origin, Traced
from .template import Templates

TRUSTED_CURE = "or load it with Config.fromfile(path, trusted=True), which executes the file"


class Opaque:
    """A name that is bound to something no config executes: an import, a function of the file.

    Attributes:
        path: Its dotted name, `copy.deepcopy`.
        why: What it is, for messages.
        cure: What to write instead of its use as a value.
    """

    def __init__(self, path: str, why: str, cure: str) -> None:
        self.path, self.why, self.cure = path, why, cure


class Scope:
    """The names of one file while it is evaluated.

    Attributes:
        names: What the file has assigned so far.
        base: What `_base_` gave.
        base_used: Whether the file has spoken of `_base_`, and so may have changed it.
        line: The line of the operation that runs now; an error that Python raises gets it.
    """

    __slots__ = ("base", "base_used", "budget", "file", "line", "names", "templates")

    def __init__(self, file: str, budget: Budget, base: ConfigDict | None, templates: Templates | None) -> None:
        self.file, self.budget, self.base, self.templates = file, budget, base, templates
        self.names: dict[str, Any] = {}
        self.base_used = False
        self.line = 1


def read_key(container: Any, key: Any, scope: Scope) -> Any:
    """`container[key]`, with a did-you-mean where a mapping lacks the key."""
    if isinstance(container, dict):
        if check_key(key, scope) not in container:
            raise Refused(f"no key {key!r:.100}{nearest(key, container)}")
        return container[key]
    if not isinstance(container, (list, tuple, str, range)):
        raise Refused(f"{type_name(container)} has no items")
    if isinstance(key, slice):
        scope.budget.spend(1 + len(container))
    return container[key]


def write_key(container: Any, key: Any, value: Any, scope: Scope, line: int) -> None:
    """`container[key] = value`, remembering the line; in a mapping of `_base_` the value is copied, as there."""
    if isinstance(container, Traced):
        container[check_key(key, scope)] = value
        container.lines[key] = line
    elif isinstance(container, ConfigDict):
        tree = as_tree(value, file=scope.file, budget=scope.budget) if type(value) is not ConfigDict else value
        container._put(check_key(key, scope), tree, Origin(f"{scope.file}:{line}"))
    elif isinstance(container, list):
        if isinstance(key, slice):
            value = list(iterate(value, scope))
            scope.budget.spend(1 + len(container))
        container[key] = value
    else:
        raise Refused(f"items of {type_name(container)} cannot be set")


def check_key(key: Any, scope: Scope) -> Any:
    """The key, where hashing it is possible and affordable."""
    if isinstance(key, tuple):
        scope.budget.weigh(key)
    hash(key)
    return key


def iterate(value: Any, scope: Scope) -> Any:
    """The elements of a value, each of them counted."""
    if not hasattr(type(value), "__iter__"):
        raise Refused(f"{type_name(value)} has no elements to go through")
    for item in value:
        scope.budget.spend(1)
        yield item


def dotted_name(node: ast.expr) -> str:
    """`a.b.c` as it is written, for messages; '' where the node is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted_name(node.value)
        return inner and f"{inner}.{node.attr}"
    return ""
