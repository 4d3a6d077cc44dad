"""Recomputation: activations of a block given up in forward and computed again in backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers.tracing import is_exporting


def recompute(block: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, with what lies between given up and recomputed in backward while gradients are recorded.

    Running statistics and schedules move once: the second run leaves them alone. Tracing, exporting and runs without
    gradients call `function` as it is.

    Args:
        block: The module that `function` computes with.
        function: From map to map.
        x: Its input; it need not require a gradient.
    """
    if not torch.is_grad_enabled() or _is_traced(x):
        return function(x)
    if torch.compiler.is_compiling():  # there the updates are functional: they happen once, whatever is recomputed
        y: Tensor = checkpoint(function, x, use_reentrant=False)
    else:
        y = checkpoint(function, x, use_reentrant=False, context_fn=partial(_contexts, block))
    return y


def _is_traced(x: Tensor) -> bool:
    return isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing() or is_exporting()  # type: ignore[attr-defined,no-untyped-call]


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    return contextlib.nullcontext(), still_buffers(block)


@contextlib.contextmanager
def still_buffers(module: nn.Module) -> Iterator[None]:
    """Gives the buffers of layers that train, running statistics and schedules, back as they were at the start."""
    moving = [buffer for m in module.modules() if m.training for buffer in m.buffers(recurse=False)]
    before = [buffer.clone() for buffer in moving]
    try:
        yield
    finally:
        for buffer, value in zip(moving, before):
            buffer.data.copy_(value)  # through .data: autograd holds these tensors, and no gradient depends on them
