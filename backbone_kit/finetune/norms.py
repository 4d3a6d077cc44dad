"""One kind of norm for another."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..backbones import Backbone
from ..errors import ConfigError, located
from ..layers import FrozenBatchNorm2d, NormCfg, build_norm_layer
from ..layers.conv_norm import fold_norms
from ..layers.norm import NORM_LAYERS
from ..layers.replace import replace_modules
from ..signature import parameters
from .freeze import hold, is_held
from .names import check_kinds

KINDS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)


def convert_norms(model: nn.Module, norm_cfg: NormCfg) -> nn.Module:
    """Replaces the BatchNorms of maps, synchronised and frozen ones too, under the names that they have.

    The new norms keep what they have in common with the old: weight, bias, statistics, eps, momentum, whether they
    train or are frozen; what comes after a FrozenBN trains, but for frozen stages and what `freeze` froze. BN, SyncBN
    and FrozenBN compute the same in eval mode; GN starts with BatchNorm's weight and bias, and has to be trained.
    Classes derived from BatchNorm are left alone, as they do something else besides.

    Args:
        model: Changed in place; hooks on the replaced layers are lost.
        norm_cfg: `dict(type='FrozenBN')`, `dict(type='SyncBN')`, `dict(type='GN', num_groups=32)`, ...; what it says
            replaces what the old norms have.

    Returns:
        `model`, or the new norm where `model` itself is a BatchNorm.

    Raises:
        ConfigError: No such norm can be built for some layer, it takes no maps, or statistics are missing. Nothing is
            replaced then.

    Examples:
        >>> from backbone_kit import build_backbone
        >>> convert_norms(build_backbone('resnet18'), dict(type='GN', num_groups=32)).layer1[0].bn1
        GroupNorm(32, 64, eps=1e-05, affine=True...)
    """
    check_kinds(convert_norms, model, norm_cfg=norm_cfg)
    old = {name: layer for name, layer in model.named_modules() if type(layer) in KINDS}
    model = replace_modules(model, {layer: _converted(layer, norm_cfg, name) for name, layer in old.items()})
    for net in model.modules():
        if isinstance(net, Backbone):
            net.hold()
    return model


def _converted(old: Any, norm_cfg: NormCfg, name: str) -> nn.Module:
    kind = norm_cfg.get("type")
    kind = NORM_LAYERS.get(kind) if isinstance(kind, str) else kind
    taken = parameters(kind) if callable(kind) else ()
    common = ("eps", "momentum", "affine", "track_running_stats")
    kept = {key: getattr(old, key) for key in common if key in taken and hasattr(old, key)}
    with located("norm_cfg"):
        _, new = build_norm_layer({**kept, **norm_cfg}, old.num_features)
    try:
        copy.deepcopy(new).to("meta").eval()(torch.empty(1, old.num_features, 1, old.num_features + 1, device="meta"))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{type(new).__name__} takes no maps (N, C, H, W): {error}", ("norm_cfg",)) from error
    if isinstance(new, FrozenBatchNorm2d) and old.running_mean is None:
        raise ConfigError(f"{name} has no running statistics to freeze", ("norm_cfg",))
    for like in (old.running_mean, old.weight):
        if like is not None:
            new.to(like)
    new.load_state_dict(old.state_dict(), strict=False)
    for key, parameter in new.named_parameters() if "requires_grad" not in norm_cfg else ():
        before = getattr(old, key)
        parameter.requires_grad_(before.requires_grad if isinstance(before, nn.Parameter) else not is_held(old))
    new.train(old.training)
    fold_norms(new, getattr(old, "_folds", True))
    if is_held(old):
        hold(new)
    return new
