"""Layers that no pretrained net has. A class says so with `brings_new`: True, or the names of what is new in it.

A plugin is new as a whole, a deformable convolution in its offsets, a backbone in the norms of its outputs.
"""

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
        brings = getattr(module, "brings_new", False)
        if brings:
            start = f"{path}." if path else ""
            groups = [start] if brings is True else [f"{start}{name}" for name in brings]
            own = [start + key for key in module.state_dict()]
            new = [keys for keys in (_under(group, own) for group in groups) if not any(key in served for key in keys)]
            if any(new):
                fresh[path] = tuple(key for keys in new for key in keys)
    return fresh


def _under(group: str, keys: list[str]) -> list[str]:
    return [key for key in keys if key == group or key.startswith(group if group.endswith(".") else f"{group}.")]


def optional_keys(model: nn.Module) -> Iterator[str]:
    """The model's keys that a source may lack: counters of batches, and what a layer lists in `optional_keys`."""
    for path, module in model.named_modules():
        for key in (*getattr(module, "optional_keys", ()), "num_batches_tracked"):
            yield f"{path}.{key}" if path else key
