"""Recomputation: activations of a block given up in forward and computed again in backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from ..layers.tracing import is_traced


def recompute(block: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function(x)`, with what lies between given up and recomputed in backward while gradients are recorded.

    Running statistics and schedules move once: the second run starts where the first did, and leaves no trace.
    Tracing, exporting and runs without gradients call `function` as it is; so does a compiled run of a block in which a
    layer counts its forwards, such as a DropBlock: its second run would read the count that the first one left.

    Args:
        block: The module that `function` computes with.
        function: From map to map.
        x: Its input; it need not require a gradient.
    """
    if not torch.is_grad_enabled() or is_traced(x) or (torch.compiler.is_compiling() and _counts(block)):
        return function(x)
    if torch.compiler.is_compiling():  # there the updates are functional: they happen once, whatever is recomputed
        y: Tensor = checkpoint(function, x, use_reentrant=False)
    else:
        y = checkpoint(function, x, use_reentrant=False, context_fn=partial(_contexts, block))
    return y


def _counts(block: nn.Module) -> bool:
    """Whether a layer that trains has an integer buffer; norms do not read theirs."""
    layers = [m for m in block.modules() if m.training and not isinstance(m, _NormBase)]
    return any(not buffer.is_floating_point() for m in layers for buffer in m.buffers(recurse=False))


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    moving = [buffer for m in block.modules() if m.training for buffer in m.buffers(recurse=False)]
    return contextlib.nullcontext(), _repeated(moving, [buffer.clone() for buffer in moving])


@contextlib.contextmanager
def _repeated(moving: Sequence[Tensor], at_first: Sequence[Tensor]) -> Iterator[None]:
    """Buffers of layers that train, running statistics and schedules, as at the first run; then as they were."""
    with unmoved(moving):
        _fill(moving, at_first)
        yield


@contextlib.contextmanager
def unmoved(buffers: Sequence[Tensor]) -> Iterator[None]:
    """In the end, these buffers are as they were."""
    now = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        _fill(buffers, now)


def _fill(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values):
        buffer.data.copy_(value)  # through .data: autograd holds these tensors, and no gradient depends on them
