"""Backbones as other libraries want them: one file a library, imported when something of it is first used.

Where a library is not installed, its names are here all the same, so that `import *`, `hasattr` and what lists members
work; calling one says what to install.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .detectron2 import as_detectron2
    from .mmengine import register_in_mmengine
    from .smp import as_smp
    from .timm import as_timm
    from .torchvision import anchors_for, as_torchvision
    from .transformers import as_transformers

_HOMES = {
    "anchors_for": "torchvision",
    "as_detectron2": "detectron2",
    "as_smp": "smp",
    "as_timm": "timm",
    "as_torchvision": "torchvision",
    "as_transformers": "transformers",
    "register_in_mmengine": "mmengine",
}
_PACKAGES = {"smp": "segmentation_models_pytorch"}  # where the library is imported under another name

__all__ = [
    "anchors_for",
    "as_detectron2",
    "as_smp",
    "as_timm",
    "as_torchvision",
    "as_transformers",
    "register_in_mmengine",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{home}", __name__), name)
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(home, home)
        if (error.name or "").partition(".")[0] != package:
            raise
        return _missing(name, package, home)


def _missing(name: str, package: str, home: str) -> Callable[..., Any]:
    """What stands for an adapter whose library is not installed."""
    sources = "detectron2 is installed from its sources"
    cure = sources if home == "detectron2" else f"pip install 'backbone-kit[{home}]'"

    def missing(*_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError(f"{name} needs {package}: {cure}", name=package)

    missing.__name__ = missing.__qualname__ = name
    missing.__doc__ = f"Not available: {name} needs {package}: {cure}."
    return missing


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
