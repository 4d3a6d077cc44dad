"""What the arguments of a backbone may hold: configs of layers that take maps (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from ..errors import Path, Problem
from ..layers import CONV_LAYERS, NORM_LAYERS, LayerNorm2d
from ..registry import Registry


class OnMaps:
    """Checks a config against a registry, and that the layer is one for maps.

    Args:
        registry: Of the layer.
        refused: Classes in it that take something else, or change the size of a map.
        but: Their subclasses that are for maps.
    """

    def __init__(self, registry: Registry, *refused: type, but: tuple[type, ...] = ()) -> None:
        self.registry = registry
        self.refused = refused
        self.but = but

    def check(self, cfg: Any, path: Path = ()) -> list[Problem]:
        """Everything that is wrong with `cfg`."""
        problems = self.registry.check(cfg, path)
        if problems:
            return problems
        kind = self.registry.get(cfg["type"]) if isinstance(cfg["type"], str) else cfg["type"]
        if isinstance(kind, type) and issubclass(kind, self.refused) and not issubclass(kind, self.but):
            return [Problem(f"{cfg['type']!r} is no {self.registry.name} for maps (N, C, H, W)", (*path, "type"))]
        return []


class Deformable(OnMaps):
    """The same for `dcn`, which may also say `fallback_on_stride`, and which no plain convolution fulfils."""

    def check(self, cfg: Any, path: Path = ()) -> list[Problem]:
        """Everything that is wrong with `cfg`."""
        if not isinstance(cfg, Mapping):
            return super().check(cfg, path)
        fallback = cfg.get("fallback_on_stride", False)
        rest = {key: value for key, value in cfg.items() if key != "fallback_on_stride"}
        problems = super().check(rest, path)
        if not isinstance(fallback, bool):
            problems.append(Problem(f"must be True or False, got {fallback!r}", (*path, "fallback_on_stride")))
        if cfg.get("type") in ("Conv", "Conv2d", nn.Conv2d):
            problems.append(Problem(f"{cfg['type']!r} is not deformable; use 'DCN' or 'DCNv2'", (*path, "type")))
        return problems


_OTHER_CONVS = (nn.Conv1d, nn.Conv3d, _ConvTransposeNd)
_OTHER_NORMS = (nn.BatchNorm1d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm3d, nn.LayerNorm)

ConvCfg = Annotated[Mapping[str, Any], OnMaps(CONV_LAYERS, *_OTHER_CONVS)]
NormCfg = Annotated[Mapping[str, Any], OnMaps(NORM_LAYERS, *_OTHER_NORMS, but=(LayerNorm2d,))]
DeformableCfg = Annotated[Mapping[str, Any], Deformable(CONV_LAYERS, *_OTHER_CONVS)]
