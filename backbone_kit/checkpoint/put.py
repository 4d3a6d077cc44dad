"""Tensors into a model that has been checked to take them: copied, or in the place of tensors without memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .sharded import shared_out


def put(model: nn.Module, tensors: Mapping[str, Tensor], fresh: Mapping[str, Iterable[str]], *, copy: bool) -> None:
    """Fills the model; a model on the meta device gets the tensors themselves.

    Args:
        model: Takes the tensors.
        tensors: By the model's keys, shaped as there.
        fresh: Paths of layers with new parts, and the keys that are new; they are initialised where they have no memory
            yet.
        copy: Whether the tensors are somebody else's, and may not become the model's.
    """
    own = model.state_dict()
    if not any(value.is_meta for value in own.values()):
        model.load_state_dict({key: shared_out(value, own[key]) for key, value in tensors.items()}, strict=False)
        return
    for path, keys in fresh.items():
        parts = [path] if path else dict.fromkeys(key.partition(".")[0] for key in keys)
        for part in parts:
            _initialise(model, model.get_submodule(part))
    taken = {key: value.to(own[key].dtype, copy=copy) for key, value in tensors.items()}
    model.load_state_dict(taken, strict=False, assign=True)
    for module in model.modules():
        counter = getattr(module, "num_batches_tracked", None)
        if isinstance(counter, Tensor) and counter.is_meta:
            module.register_buffer("num_batches_tracked", torch.zeros_like(counter, device="cpu"))


def _initialise(model: nn.Module, layer: nn.Module) -> None:
    if not any(tensor.is_meta for tensor in layer.state_dict().values()):
        return
    layer.to_empty(device="cpu")
    for module in layer.modules():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()  # type: ignore[operator]
    start = getattr(model, "default_init", None)
    if callable(start):
        start(layer)
    elif callable(getattr(layer, "init_weights", None)):
        layer.init_weights()  # type: ignore[operator]
