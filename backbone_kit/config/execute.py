"""Executing a trusted `.py` config: `Config.fromfile(path, trusted=True)`."""

from __future__ import annotations

import ast
import traceback
import types
from typing import Any

from ..errors import ConfigError
from .limits import Budget, Refused
from .mapping import BASE_KEY, ConfigDict, as_tree
from .origins import Traced
from .statements import base_node, refuse_read_base


def execute_trusted(
    tree: ast.Module, path: str, shown: str, base: ConfigDict, budget: Budget
) -> tuple[ConfigDict, ConfigDict]:
    """Runs a file as Python: its names, except functions, modules and names with two underscores, and its bases.

    Args:
        tree: What `parse` made of the file.
        path: Where it is; its `__file__`.
        shown: How messages call it.
        base: What its bases gave; its `_base_`.
        budget: What the load may still spend.

    Raises:
        ConfigError: The file raised, or is in MMEngine's lazy style.
    """
    skipped = base_node(tree)
    body = [node for node in tree.body if node is not skipped]
    lines: dict[str, int] = {}
    for node in body:
        try:
            refuse_read_base(node)
        except Refused as error:
            raise ConfigError(str(error), source=f"{shown}:{node.lineno}") from None
        names_of = (part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
        lines.update((name.id, name.lineno) for name in names_of)
    names: dict[str, Any] = {BASE_KEY: base, "__file__": path, "__name__": "__config__"}
    try:
        exec(compile(ast.Module(body, type_ignores=[]), shown, "exec"), names)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == shown]
        place = f"{shown}:{frames[-1].lineno}" if frames else shown
        raise ConfigError(f"raised {type(error).__name__}: {error}", source=place) from error
    own = Traced()
    own.update((name, value) for name, value in names.items() if _is_kept(name, value))
    own.lines.update(lines)
    return as_tree(own, file=shown, budget=budget), as_tree(base, budget=budget)


def _is_kept(name: str, value: Any) -> bool:
    dropped = (types.FunctionType, types.ModuleType, types.BuiltinFunctionType)
    return name != BASE_KEY and not name.startswith("__") and not isinstance(value, dropped)
