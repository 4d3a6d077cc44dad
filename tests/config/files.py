"""Writing config files, and loading them with MMEngine, for the tests of this folder."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
    return path


def load_with_mmengine(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmengine = pytest.importorskip("mmengine.config")
        return mmengine.Config.fromfile(str(path), lazy_import=False)._cfg_dict.to_dict()
