"""Plugins by name: layers that a config puts into a block, keeping the shape of the map.

A plugin is called with a map of shape (N, C, H, W). It gets C as its argument `in_channels`, or as the one that the
config's `width_arg` names. It may carry `_abbr_`, its name in a block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from torch import nn

from ..errors import ConfigError, Path, Problem, did_you_mean
from ..registry import Registry
from ..signature import parameters, takes_any

WIDTH = "in_channels"
_ELSEWHERE = ("channels", "channel", "gate_channels", "dim", "num_channels", "num_features", "inplanes", "in_planes")
"""What other code bases call the channels of a map."""


class PluginRegistry(Registry):
    """A registry whose configs may say, as `width_arg`, which argument of a plugin is the channels of the map."""

    def _problems(self, cfg: Any, path: Path, beside: Collection[str]) -> list[Problem]:
        """As a `Registry`'s; a plugin that calls the channels something else is refused, with the cure."""
        problems = super()._problems(cfg, path, beside)
        target = self._target(cfg.get("type")) if isinstance(cfg, Mapping) else None
        if not callable(target):
            return problems
        name, known = _width_name(target, cfg), parameters(target)
        kind = getattr(target, "__name__", repr(target))
        if "width_arg" not in cfg and name not in (None, WIDTH):
            cure = f"add width_arg={name!r}{f' and remove {name!r}' if name in cfg else ''}, otherwise width_arg=None"
            problems.append(Problem(f"{kind} takes no {WIDTH!r}; if {name!r} is the channels of the map, {cure}", path))
        elif isinstance(name, str) and name not in known and not takes_any(target):
            hint = did_you_mean(name, known) or f"; it has: {', '.join(known) or 'none'}"
            problems.append(Problem(f"{kind} has no argument {name!r}{hint}", (*path, "width_arg")))
        return problems

    def construct(self, cfg: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As `Registry.construct`; `in_channels` goes to the argument that the plugin has for it, if it has one."""
        target = self._target(cfg.get("type")) if isinstance(cfg, Mapping) else None
        if callable(target) and WIDTH in kwargs:
            name, width = _width_name(target, cfg), kwargs.pop(WIDTH)
            kwargs |= {name: width} if isinstance(name, str) else {}
        return super().construct(cfg, *args, **kwargs)

    def supplied_to(self, target: Callable[..., Any], cfg: Mapping[str, Any]) -> tuple[str, ...]:
        """The channels of the map, by the name that the plugin has for them."""
        name = _width_name(target, cfg)
        return (name,) if isinstance(name, str) else ()


def _width_name(target: Callable[..., Any], cfg: Mapping[str, Any]) -> Any:
    """What the config calls the channels of the map, or what its plugin seems to; None where it takes none."""
    if "width_arg" in cfg:
        return cfg["width_arg"]
    known = parameters(target)
    usual = next((name for name in (WIDTH, *_ELSEWHERE) if name in known), None)
    if usual is not None:
        return usual
    first = next(iter(known.values()), None)
    if first is not None and first.default is first.empty and first.annotation in (int, Any) and first.name not in cfg:
        return first.name
    return WIDTH if takes_any(target) else None


PLUGIN_LAYERS = PluginRegistry("plugin", options={"postfix": int | str, "width_arg": str | None})
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
        cfg: `type`, the arguments of that plugin, and optionally `postfix` and `width_arg`: the name of the argument
            that is the channels of the map, None for a plugin that takes none.
        postfix: What follows the name, before the config's own: with '_a', 'context_block_a'.
        **kwargs: What the block knows, `in_channels`, and further arguments of the plugin.

    Returns:
        `(name, layer)`. The layer's attribute `brings_new` is True: a pretrained net has none of its weights.

    Raises:
        ConfigError: The type or an argument is unknown, the plugin's name for the channels of the map is not known, or
            its output has other channels.
    """
    if not isinstance(postfix, (int, str)):
        raise ConfigError(f"must be an int or a string, got {postfix!r}", ("postfix",))
    layer = PLUGIN_LAYERS.construct(cfg, **kwargs)
    width = kwargs.get(WIDTH)
    if width is not None and cfg.get("out_channels", width) != width:
        reason = f"a plugin keeps the channels of its map (={width}), got {cfg['out_channels']}"
        raise ConfigError(reason, ("out_channels",))
    layer.brings_new = True
    return f"{plugin_abbreviation(type(layer))}{postfix}{cfg.get('postfix', '')}", layer
