"""Detection backbones from a config: exact multi-scale features on plain PyTorch.

Names are resolved when they are first used, so that `from backbone_kit import Config` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .backbones import BACKBONES, build_backbone
    from .checkpoint import (
        LoadReport,
        Preprocessing,
        convert_state_dict,
        detect_layout,
        find_entry,
        fold_preprocessing,
        load_checkpoint,
        read_checkpoint,
    )
    from .config import Config
    from .errors import CheckpointError, ConfigError
    from .names import list_backbones
    from .openmmlab import from_openmmlab
    from .registry import Registry, build_from_cfg

_HOMES = {
    "BACKBONES": "backbones",
    "CheckpointError": "errors",
    "Config": "config",
    "ConfigError": "errors",
    "LoadReport": "checkpoint",
    "Preprocessing": "checkpoint",
    "Registry": "registry",
    "build_backbone": "backbones",
    "build_from_cfg": "registry",
    "convert_state_dict": "checkpoint",
    "detect_layout": "checkpoint",
    "find_entry": "checkpoint",
    "fold_preprocessing": "checkpoint",
    "from_openmmlab": "openmmlab",
    "list_backbones": "names",
    "load_checkpoint": "checkpoint",
    "read_checkpoint": "checkpoint",
}

__all__ = [
    "BACKBONES",
    "CheckpointError",
    "Config",
    "ConfigError",
    "LoadReport",
    "Preprocessing",
    "Registry",
    "__version__",
    "build_backbone",
    "build_from_cfg",
    "convert_state_dict",
    "detect_layout",
    "find_entry",
    "fold_preprocessing",
    "from_openmmlab",
    "list_backbones",
    "load_checkpoint",
    "read_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
