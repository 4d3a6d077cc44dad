"""What a forward keeps for its backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def kept_bytes(run: Callable[[Tensor], Any], x: Tensor, net: nn.Module | None = None) -> int:
    """Bytes that a forward keeps for backward, each storage once, beside parameters and buffers.

    Args:
        run: From map to maps.
        x: Its input, which counts where it is kept.
        net: Whose parameters and buffers do not count; None: those of `run`.
    """
    net = run if net is None else net  # type: ignore[assignment]
    storages: dict[int, int] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in [*net.parameters(), *net.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = run(x)
    del outputs
    return sum(storages.values())
