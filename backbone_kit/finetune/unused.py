"""Parameters that no map depends on."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from ..backbones import Backbone
from ..errors import ConfigError
from .names import check_kinds


def freeze_unused(model: nn.Module, size: tuple[int, int] = (256, 256)) -> list[str]:
    """Freezes what the maps of backbones do not depend on, such as the stages behind the last of `out_indices`.

    That gets no gradient anyway; frozen, `DistributedDataParallel` does not wait for one, and can do without
    `find_unused_parameters=True`. Where it is not to be kept either, `prune_stages=True` does not even build it.

    Args:
        model: A backbone, or anything that holds some and calls them. Changed in place. A module that takes levels from
            a backbone's `forward_intermediates` names them in an attribute `used_levels`, as the adapters do.
        size: Height and width of a picture that the backbones take; it costs nothing, being on the meta device.

    Returns:
        The names of the parameters that are frozen by this.

    Raises:
        ConfigError: A backbone does not take pictures of that size.

    Examples:
        >>> from backbone_kit import build_backbone
        >>> names = freeze_unused(build_backbone('resnet18', out_indices=(1, 2)))
        >>> {name.split('.')[0] for name in names}
        {'layer4'}
    """
    check_kinds(freeze_unused, model, size=size)
    holders: list[Any] = [module for module in model.modules() if hasattr(module, "used_levels")]
    levels = {net: tuple(holder.used_levels) for holder in holders for net in holder.modules()}
    idle: set[nn.Parameter] = set()
    for net in model.modules():
        if isinstance(net, Backbone):
            used = _used(net, size, levels.get(net))
            idle |= {p for name, p in net.named_parameters() if p.requires_grad and name not in used}
    for parameter in idle:
        parameter.requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if parameter in idle]


def _used(net: Backbone, size: tuple[int, int], levels: tuple[str, ...] | None) -> set[str]:
    """The names of the parameters that a backward pass from the maps, or from those of some levels, would reach."""
    trial = copy.deepcopy(net).to("meta").train()
    trial._recomputation = None
    for module in trial.modules():
        if hasattr(module, "with_cp"):
            module.with_cp = False  # type: ignore[assignment]  # recomputation is not for the meta device
    channels = next(layer.in_channels for layer in trial.modules() if isinstance(layer, nn.Conv2d))
    dtype = next(p.dtype for p in trial.parameters())
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a first step that is none
        x = torch.empty(2, channels, *size, device="meta", dtype=dtype)
        try:
            maps = trial(x) if levels is None else [*map(trial.forward_intermediates(x).__getitem__, levels)]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ConfigError(f"{type(net).__name__} does not take pictures of {size}: {error}", ("size",)) from error
    nodes = [y.grad_fn for y in maps if y.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        for node, _ in nodes.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                nodes.append(node)
    reached = {id(node.variable) for node in seen if hasattr(node, "variable")}
    return {name for name, p in trial.named_parameters() if id(p) in reached}
