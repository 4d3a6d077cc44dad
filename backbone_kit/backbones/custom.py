"""`custom_imports`: modules of the user's own that a config lists, so that what they register can be built."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..openmmlab import SCOPES


def import_custom(whole: Mapping[str, Any]) -> list[str]:
    """Imports what `custom_imports` lists and returns the modules' names.

    OpenMMLab's own packages are left out: what they would register, such as `mmpretrain.models`, is here.

    Args:
        whole: A whole config. Beside what Python finds anyway, its file's folder and the current one are looked at,
            last.

    Raises:
        ConfigError: `custom_imports` is no `dict(imports=[...])`, or an import fails and `allow_failed_imports` is not
            set.
    """
    cfg = whole.get("custom_imports")
    if cfg is None:
        return []
    names = cfg.get("imports") if isinstance(cfg, Mapping) and set(cfg) <= {"imports", "allow_failed_imports"} else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n and n[0] != "." for n in names):
        raise ConfigError(
            f"must be dict(imports=['module', ...], allow_failed_imports=False), got {cfg!r}", ("custom_imports",)
        )
    folder = Path(getattr(whole, "filename", None) or ".").resolve().parent
    imported = []
    with _found_last(str(folder), os.getcwd()):
        for name in names:
            if name.partition(".")[0] in SCOPES:
                continue
            try:
                importlib.import_module(name)
                imported.append(name)
            except Exception as error:
                if not (isinstance(error, ImportError) and cfg.get("allow_failed_imports", False)):
                    cure = "; put it beside the config, or its folder on PYTHONPATH" * isinstance(error, ImportError)
                    reason = f"cannot import {name!r} ({type(error).__name__}: {error}){cure}"
                    raise ConfigError(reason, ("custom_imports", "imports")) from error
    return imported


@contextlib.contextmanager
def _found_last(*folders: str) -> Iterator[None]:
    before = list(sys.path)
    sys.path.extend(folders)
    try:
        yield
    finally:
        sys.path[:] = before


def resolve_types(node: Any, modules: list[str]) -> None:
    """Replaces, in place, every `type` that is an import path into one of `modules` by what it names."""
    if isinstance(node, dict):
        kind = node.get("type")
        if isinstance(kind, str) and kind.rpartition(".")[0] in modules:
            module, _, name = kind.rpartition(".")
            dict.__setitem__(node, "type", getattr(sys.modules[module], name, kind))  # a Config keeps its line
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        resolve_types(child, modules)
