"""Bases in installed packages, `mmdet::faster_rcnn/x.py`, found without importing the package."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from .limits import Refused
from .mapping import ConfigDict

_FOLDERS = (os.path.join(".mim", "configs"), "configs", "")


def find_package_config(package: str, inner: str) -> str:
    """Where the config `inner` of an installed package is.

    Args:
        package: The top-level name that is imported, such as `mmdet`.
        inner: The path below the package's configs.

    Raises:
        Refused: The package is not installed, or has no such config.
    """
    # A dotted name would make find_spec import its parent.
    if not package.isidentifier():
        raise Refused(f"{package!r} is no name of a package; write package::path/to/config.py")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        raise Refused(f"no package {package!r} is installed; pip install it, or write a path instead")
    paths = [os.path.join(root, folder, inner) for root in roots for folder in _FOLDERS]
    found = next((path for path in paths if os.path.isfile(path)), None)
    if found is None:
        raise Refused(f"{package!r} is installed, but has no {os.path.join(_FOLDERS[0], inner)}; check the path")
    return found


def stamp_scope(tree: ConfigDict, scope: str) -> ConfigDict:
    """Puts `_scope_` into the outermost dicts with a `type`, so that the registry of their package builds them."""
    _stamp(tree, scope)
    return tree


def _stamp(value: Any, scope: str) -> None:
    if isinstance(value, ConfigDict):
        if "type" in value:
            if value.get("_scope_") is None:
                value._put("_scope_", scope, value._origins.get("type"))
            return
        for item in value.values():
            _stamp(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _stamp(item, scope)
