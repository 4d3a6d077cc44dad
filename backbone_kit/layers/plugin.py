"""Plugins by name: layers that a config puts into a block, keeping the shape of the map.

A plugin takes `in_channels` and is called with a map of shape (N, C, H, W). It may carry `_abbr_`, its name in a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from torch import nn

from ..registry import Registry

PLUGIN_LAYERS = Registry("plugin", supplied=("in_channels",), options={"postfix": int | str})
PluginCfg = Annotated[Mapping[str, Any], PLUGIN_LAYERS]


def plugin_abbreviation(kind: type) -> str:
    """The name of a plugin class in a block: its own `_abbr_`, or the class's name in snake case.

    Examples:
        >>> plugin_abbreviation(nn.MaxPool2d)
        'max_pool2d'
    """
    if hasattr(kind, "_abbr_"):
        return str(kind._abbr_)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", kind.__name__)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", spaced).lower()


def build_plugin_layer(cfg: PluginCfg, postfix: int | str = "", **kwargs: Any) -> tuple[str, nn.Module]:
    """A plugin and the name to register it under.

    Args:
        cfg: `type`, the arguments of that plugin, and optionally `postfix`.
        postfix: What follows the name, before the config's own: with '_a', 'context_block_a'.
        **kwargs: What the block knows: `in_channels`.

    Returns:
        `(name, layer)`.

    Raises:
        ConfigError: The type or an argument is unknown.
    """
    layer = PLUGIN_LAYERS.construct(cfg, **kwargs)
    return f"{plugin_abbreviation(type(layer))}{postfix}{cfg.get('postfix', '')}", layer
