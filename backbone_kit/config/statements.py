"""Statements of `.py` configs, and `interpret`, which runs the whole file without executing anything."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from . import calls  # noqa: F401  (registers the evaluation of calls)
from .expressions import evaluate
from .limits import Budget, Refused
from .mapping import BASE_KEY, ConfigDict, as_tree
from .origins import Traced
from .scope import TRUSTED_CURE, Opaque, Scope, dotted_name
from .targets import augment, delete, store
from .template import Templates

_CACHED_LENGTH = 1 << 14
_CURES: dict[type[ast.AST], str] = {
    ast.For: "write a comprehension: x = [f(i) for i in items]",
    ast.While: "write the result",
    ast.If: "write a conditional expression: x = a if condition else b",
    ast.With: "write the values",
    ast.Try: "write the values",
    ast.ClassDef: "put the class into a module, and list that in custom_imports",
}


def parse(text: str, file: str) -> ast.Module:
    """The syntax tree of a file; the next load of the same text gets it too, so that nobody may change it.

    Raises:
        ConfigError: The text is no Python.
    """
    return _parse_kept(text, file) if len(text) < _CACHED_LENGTH else _parse(text, file)


def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text, file)
    except SyntaxError as error:
        raise ConfigError(f"is no Python: {error.msg}", source=f"{file}:{error.lineno or 1}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if isinstance(error, (RecursionError, MemoryError)) else str(error)
        raise ConfigError(f"is no Python that can be read: {reason}", source=file) from None


_parse_kept = functools.lru_cache(maxsize=128)(_parse)


def base_node(tree: ast.Module) -> ast.Assign | None:
    """The `_base_ = ...` of a file, which is read before everything else."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == BASE_KEY:
            return node
    return None


def interpret_base(node: ast.Assign, file: str, budget: Budget, templates: Templates | None) -> Any:
    """The value of `_base_ = ...`, which may use no other name of the file."""
    scope = Scope(file, budget, None, templates)
    return _placed(lambda: evaluate(node.value, scope), scope, node)


def interpret_value(node: ast.expr) -> Any:
    """The value of an expression that uses no names."""
    scope = Scope("", Budget(), None, None)
    return _placed(lambda: evaluate(node, scope), scope, node)


def interpret(
    tree: ast.Module, file: str, budget: Budget, base: ConfigDict, templates: Templates | None
) -> tuple[ConfigDict, ConfigDict]:
    """The names that a file assigns, and what it left of its bases.

    Args:
        tree: What `parse` made of it.
        file: Its name, for messages and sources.
        budget: What the load may still spend.
        base: What `_base_` gave; assignments to `_base_.x` may change it.
        templates: Fills `{{...}}` in strings; None where the file has none.

    Raises:
        ConfigError: Something in the file is not evaluated, or fails; it names file and line.
    """
    scope = Scope(file, budget, base, templates)
    result = Traced()
    base_statement = base_node(tree)
    for node in tree.body:
        if node is base_statement:
            continue
        _placed(functools.partial(execute, node, scope), scope, node)
        for name in assigned_names(node):
            result.lines[name] = node.lineno
    for name, value in scope.names.items():
        # Names with two underscores are the file's own.
        if not name.startswith("__") and not isinstance(value, Opaque):
            result[name] = value
    own: ConfigDict = as_tree(result, file=file, budget=budget, data_only=True)
    return own, as_tree(base, file=file, budget=budget, data_only=True) if scope.base_used else base


def assigned_names(node: ast.stmt) -> list[str]:
    """The names that an assignment binds, in whatever it unpacks into."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        targets = [node.target]
    parts = [part for target in targets for part in ([target] if isinstance(target, ast.Name) else ast.walk(target))]
    return [part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]


def _placed(run: Callable[[], Any], scope: Scope, node: ast.stmt | ast.expr) -> Any:
    """Runs a statement; whatever goes wrong becomes a ConfigError with file and line."""
    scope.line = node.lineno
    try:
        return run()
    except ConfigError as error:
        if any(problem.source for problem in error.problems):
            raise
        message = str(error)
    except Refused as error:
        message = str(error)
    except (RecursionError, MemoryError):
        message, scope.line = "is nested too deeply", node.lineno
    except Exception as error:  # what Python says of the operation itself: a division by zero, 'a' + 1, int('x')
        message = f"{type(error).__name__}: {error}"
    raise ConfigError(message, source=f"{scope.file}:{scope.line}" if scope.file else "") from None


def execute(node: ast.stmt, scope: Scope) -> None:
    """One statement."""
    if isinstance(node, ast.Assign):
        value = evaluate(node.value, scope)
        for target in node.targets:
            store(target, value, scope)
    elif isinstance(node, ast.AnnAssign):
        if node.value:
            store(node.target, evaluate(node.value, scope), scope)
    elif isinstance(node, ast.AugAssign):
        augment(node, scope)
    elif isinstance(node, ast.Delete):
        for target in node.targets:
            delete(target, scope)
    elif isinstance(node, ast.Expr):
        evaluate(node.value, scope)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        _import(node, scope)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        scope.names[node.name] = Opaque(node.name, "a function of the file, which is skipped", "write its result")
    elif not isinstance(node, ast.Pass) and not _is_main(node):
        refuse_read_base(node)
        cure = _CURES.get(type(node), "write assignments")
        raise Refused(
            f"{type(node).__name__.lower().removesuffix('def')} is not evaluated in a config; {cure}, {TRUSTED_CURE}"
        )


def _import(node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
    module = "" if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
    for alias in node.names:
        if alias.name == "*":
            raise Refused(
                f"'from {module} import *' brings in no names: nothing is imported by a config;"
                f" inherit through _base_ = ['{module.strip('.').replace('.', '/')}.py'], {TRUSTED_CURE}"
            )
        # `import a.b` binds a, `import a.b as c` binds c to a.b.
        path = f"{module}.{alias.name}" if module else alias.name if alias.asname else alias.name.partition(".")[0]
        name = alias.asname or path.rpartition(".")[2]
        cure = f"write a registered name as a string, {name!r}"
        scope.names[name] = Opaque(path, "only an imported name: nothing is imported", cure)


def _is_main(node: ast.stmt) -> bool:
    """`if __name__ == '__main__':`, in either order."""
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or node.orelse:
        return False
    sides = [node.test.left, *node.test.comparators]
    constants = [side.value for side in sides if isinstance(side, ast.Constant)]
    return isinstance(node.test.ops[0], ast.Eq) and constants == ["__main__"] and "__name__" in map(dotted_name, sides)


def refuse_read_base(node: ast.stmt) -> None:
    """Says what to write instead of `with read_base():`, whose imports are MMEngine's own."""
    contexts = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
    if not any(isinstance(each, ast.Call) and dotted_name(each.func).endswith("read_base") for each in contexts):
        return
    bases = [
        "/".join(["."] * (part.level == 1) + [".."] * (part.level - 1) + [*part.module.split(".")]) + ".py"
        for part in ast.walk(node)
        if isinstance(part, ast.ImportFrom) and part.module
    ]
    raise Refused(
        f"`with read_base():` is MMEngine's lazy style, which is not read here, not with trusted=True either;"
        f" write _base_ = {bases}, and the classes of `type=` as strings"
    )
