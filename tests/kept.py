"""What a forward keeps for its backward."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


def held_bytes(run: Callable[[Tensor], Sequence[Tensor]], x: Tensor) -> int:
    """Bytes that a forward allocates and its graph alone holds on to, whoever holds them, and however.

    Args:
        run: From map to maps.
        x: Its input, which does not count.
    """
    with _Allocated() as allocated:
        outputs = run(x)
    graph = [y.grad_fn for y in outputs]
    del outputs
    held = sum(size for reference, size in allocated.sizes.values() if not reference.expired())
    del graph
    assert all(reference.expired() for reference, _ in allocated.sizes.values()), "something outlives the graph"
    return held


def most_bytes(run: Callable[[], Any]) -> int:
    """The most bytes, of what a run allocates, that are there at one time; without waiting for a garbage collection."""
    gc.collect()
    gc.disable()
    try:
        with _Allocated() as allocated:
            run()
    finally:
        gc.enable()
    return allocated.most


class _Allocated(TorchDispatchMode):
    """Every storage that an operation gives and was not given, and the most that was there at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                self.sizes.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.most = max(self.most, sum(size for reference, size in self.sizes.values() if not reference.expired()))
        return result
