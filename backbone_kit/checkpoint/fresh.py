"""Layers that no pretrained net has. A class says so with `brings_new`: True, or the names of what is new in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn


def fresh_layers(model: nn.Module, served: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The layers that bring something new that was not served.

    Returns:
        The path of each, and the keys of the model that are new in it.
    """
    fresh: dict[str, tuple[str, ...]] = {}
    for path, module in model.named_modules():
        brings = getattr(module, "brings_new", ())
        if brings:
            keys = [f"{path}.{key}" if path else key for key in module.state_dict() if _is_new(key, brings)]
            if keys and not any(key in served for key in keys):
                fresh[path] = tuple(keys)
    return fresh


def _is_new(key: str, brings: bool | Collection[str]) -> bool:
    return brings is True or any(key == name or key.startswith(f"{name}.") for name in brings or ())


def optional_keys(model: nn.Module) -> Iterator[str]:
    """The model's keys that a source may lack: counters of batches, and what a layer lists in `optional_keys`."""
    for path, module in model.named_modules():
        for key in (*getattr(module, "optional_keys", ()), "num_batches_tracked"):
            yield f"{path}.{key}" if path else key
