"""Backbones: `Backbone` is the contract, every other file a family; a new file here is found by itself."""

import importlib
import pkgutil

from .base import BACKBONES, Backbone
from .levels import FeatureInfo

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

from .build import build_backbone  # noqa: E402
from .resnet import ResNet  # noqa: E402

__all__ = ["BACKBONES", "Backbone", "FeatureInfo", "ResNet", "build_backbone"]
