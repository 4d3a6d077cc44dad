"""Norms by name, and the short names under which blocks hold them (`bn1`, `gn2`): part of the checkpoint format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import ConfigError
from ..registry import Registry
from ..signature import parameters

NORM_LAYERS = Registry(
    "norm layer",
    supplied=("num_features", "num_channels", "normalized_shape"),
    options={"requires_grad": bool},
)
NormCfg = Annotated[Mapping[str, Any], NORM_LAYERS]

for _names, _layer in {
    ("BN", "BN2d"): nn.BatchNorm2d,
    "BN1d": nn.BatchNorm1d,
    "BN3d": nn.BatchNorm3d,
    ("SyncBN", "MMSyncBN"): nn.SyncBatchNorm,  # outside a process group it computes what BatchNorm2d does
    "GN": nn.GroupNorm,
    "LN": nn.LayerNorm,
    ("IN", "IN2d"): nn.InstanceNorm2d,
    "IN1d": nn.InstanceNorm1d,
    "IN3d": nn.InstanceNorm3d,
}.items():
    NORM_LAYERS.register_module(_names, module=_layer)

_ABBREVIATIONS: tuple[tuple[type, str], ...] = (
    (_InstanceNorm, "in"),
    (_BatchNorm, "bn"),
    (nn.GroupNorm, "gn"),
    (nn.LayerNorm, "ln"),
)


def norm_abbreviation(kind: type) -> str:
    """The short name of a norm class: its `_abbr_`, or 'bn', 'gn', 'ln', 'in' by its base or name, or 'norm_layer'."""
    if hasattr(kind, "_abbr_"):
        return str(kind._abbr_)
    for base, short in _ABBREVIATIONS:
        if issubclass(kind, base):
            return short
    for word, short in (("batch", "bn"), ("group", "gn"), ("layer", "ln"), ("instance", "in")):
        if word in kind.__name__.lower():
            return short
    return "norm_layer"


def build_norm_layer(cfg: NormCfg, num_features: int, postfix: int | str = "") -> tuple[str, nn.Module]:
    """A norm and the name to register it under.

    Args:
        cfg: `type`, the arguments of that norm, and `requires_grad` (default True) for its parameters.
        num_features: Channels of the map that is normalised.
        postfix: What follows the short name: 1 gives 'bn1'.

    Returns:
        `(name, layer)`.

    Raises:
        ConfigError: The type or an argument is unknown, or GN has no `num_groups`.

    Examples:
        >>> build_norm_layer(dict(type='GN', num_groups=32), 256, postfix=2)
        ('gn2', GroupNorm(32, 256, eps=1e-05, affine=True...))
    """
    if not isinstance(postfix, (int, str)):
        raise ConfigError(f"must be an int or a string, got {postfix!r}", ("postfix",))
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    kind = NORM_LAYERS.get(kind) if isinstance(kind, str) else kind
    if callable(kind) and "num_channels" in parameters(kind):
        layer = NORM_LAYERS.construct(cfg, num_channels=num_features)
    else:
        layer = NORM_LAYERS.construct(cfg, num_features)
    layer.requires_grad_(cfg.get("requires_grad", True))
    return f"{norm_abbreviation(type(layer))}{postfix}", layer
