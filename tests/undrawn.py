"""Nets whose random weights cost nothing: not drawn, where a test is about to overwrite them, or copied."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWN = {"kaiming_uniform_", "normal_", "uniform_"}  # what the constructors of PyTorch's layers, and ours, draw with


class undrawn(TorchFunctionMode):  # a context manager: named like one
    """Within it, weights of new layers are whatever was in memory; drawing them takes most of building a net.

    Read nothing of such a net before all of it is overwritten, as by a strict `load_state_dict`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.__name__ in _DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def cheaply(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """What `make` makes, with weights that are pieces of one long draw."""
    with undrawn():
        net = make(*args, **kwargs)
    draw, places = _long_draw(), torch.Generator().manual_seed(0)
    for weight in (p.detach() for p in net.parameters()):
        for piece in weight.view(-1).split(len(draw) // 2):
            start = int(torch.randint(len(draw) // 2, (), generator=places))
            torch.mul(draw[start : start + len(piece)], (2 / weight[0].numel()) ** 0.5, out=piece)
    return net


@functools.cache
def _long_draw() -> Tensor:
    return torch.randn(1 << 21, generator=torch.Generator().manual_seed(0))
