"""Paddings by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from torch import nn

from ..registry import Registry

PADDING_LAYERS = Registry("padding layer", supplied=("padding",))
PaddingCfg = Annotated[Mapping[str, Any], PADDING_LAYERS]

for _name, _layer in {
    "zero": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}.items():
    PADDING_LAYERS.register_module(_name, module=_layer)


def build_padding_layer(cfg: PaddingCfg, *args: Any, **kwargs: Any) -> nn.Module:
    """A padding.

    Args:
        cfg: `type`: 'zero', 'reflect', 'replicate' or 'circular'.
        *args, **kwargs: The padding in pixels: one number, or (left, right, top, bottom).

    Raises:
        ConfigError: The type or an argument is unknown.

    Examples:
        >>> build_padding_layer(dict(type='reflect'), 2)
        ReflectionPad2d((2, 2, 2, 2))
    """
    module: nn.Module = PADDING_LAYERS.construct(cfg, *args, **kwargs)
    return module
