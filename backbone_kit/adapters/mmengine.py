"""For MMEngine and what is built on it."""

from __future__ import annotations

from mmengine.registry import MODELS
from mmengine.registry import Registry as MMRegistry

from ..backbones import BACKBONES


def register_in_mmengine() -> MMRegistry:
    """Makes MMEngine build `dict(type='backbone_kit.ResNet', ...)`, from its root registry and from every child's.

    Called again, it adds what was registered here since.

    Returns:
        The registry of that scope, a child of `mmengine.registry.MODELS`.
    """
    registry = MODELS.children.get("backbone_kit") or MMRegistry("model", parent=MODELS, scope="backbone_kit")
    for name in BACKBONES:
        registry.register_module(name, force=True, module=BACKBONES.get(name))
    return registry
