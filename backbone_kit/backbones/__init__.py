"""Backbones: `Backbone` is the contract; a family is a file, and a new file here is found by itself.

Every registered class is an attribute: `from backbone_kit.backbones import ResNetV1d`.
"""

import importlib
import pkgutil
from typing import Any

from .base import BACKBONES, Backbone
from .levels import FeatureInfo

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from .blocks import BasicBlock, Bottleneck  # noqa: E402
from .build import build_backbone  # noqa: E402
from .resnet import ResNet  # noqa: E402

__all__ = ["BACKBONES", "Backbone", "BasicBlock", "Bottleneck", "FeatureInfo", "ResNet", "build_backbone"]


def __getattr__(name: str) -> Any:
    if name in BACKBONES:
        return BACKBONES.get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
