"""Layers of a model exchanged for others, wherever they stand."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace_modules(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Puts `new[layer]` in the place of each layer, in every place that it has.

    Args:
        model: Changed in place.
        new: From a layer of the model to what replaces it.

    Returns:
        `model`, or what replaces it.
    """
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # named_children() hides a layer that is there twice
            if child is not None and child in new:
                setattr(parent, name, new[child])
    return new.get(model, model)
