"""A table of what trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones import Backbone
from ..layers import FrozenBatchNorm2d
from .names import check_kinds


def what_trains(model: nn.Module) -> str:
    """A table: for each part of the model, its parameters, how many of them train, and its BatchNorms.

    Args:
        model: A backbone, part by part; anything else, its own parameters, then child by child, and the backbones in it
            part by part.

    Returns:
        Lines of text. 'fixed' BatchNorms keep their statistics, now that the model is in train or in eval mode.

    Examples:
        >>> from backbone_kit import build_backbone
        >>> print(what_trains(build_backbone('resnet18', frozen_stages=1).train()))
        part    parameters     trained  BatchNorms
        stem         9,536           0     1 fixed
        layer1     147,968           0     4 fixed
        layer2     525,568     525,568           5
        layer3   2,099,712   2,099,712           5
        layer4   8,393,728   8,393,728           5
        total   11,176,512  11,019,008
    """
    check_kinds(what_trains, model)
    rows = [row for row in (_row(name, modules) for name, modules in _parts(model)) if row[1] != "0" or row[3]]
    own = dict(model.named_parameters())
    total = sum(p.numel() for p in own.values())
    trained = sum(p.numel() for p in own.values() if p.requires_grad)
    table = [("part", "parameters", "trained", "BatchNorms"), *rows, ("total", f"{total:,}", f"{trained:,}", "")]
    first, *widths = (max(map(len, column)) for column in zip(*table))
    lines = ([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths))] for row in table)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _parts(model: nn.Module, name: str = "") -> Iterator[tuple[str, Sequence[nn.Module]]]:
    before = f"{name}." if name else ""
    if isinstance(model, Backbone):
        for part in model.describe():
            yield before + part["name"], [model.get_submodule(module) for module in part["modules"]]
        yield before + "in no part", [nn.ParameterList(model.loose_parameters())]
    elif name and not any(isinstance(module, Backbone) for module in model.modules()):
        yield name, [model]
    else:
        yield name or type(model).__name__, [nn.ParameterList(model.parameters(recurse=False))]
        for child_name, child in model.named_children():
            yield from _parts(child, before + child_name)


def _row(name: str, modules: Sequence[nn.Module]) -> tuple[str, str, str, str]:
    parameters = {p for module in modules for p in module.parameters()}
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    layers = [layer for module in modules for layer in module.modules()]
    norms = [layer for layer in layers if isinstance(layer, (_BatchNorm, FrozenBatchNorm2d))]
    fixed = sum(isinstance(norm, FrozenBatchNorm2d) or not norm.training for norm in norms)
    counts = [f"{fixed} fixed"] * bool(fixed) + [str(len(norms) - fixed)] * (fixed < len(norms))
    return name, f"{sum(p.numel() for p in parameters):,}", f"{trained:,}", " + ".join(counts)
