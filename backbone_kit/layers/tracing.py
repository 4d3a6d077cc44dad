"""Whether a forward is being recorded or listened to, where it has to be written in another way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module


def is_exporting() -> bool:
    """Whether this runs under `torch.export`; before torch 2.7, whether under any compiler."""
    known = getattr(torch.compiler, "is_exporting", None)
    return known() if known is not None else torch.compiler.is_compiling()


def is_traced(x: Tensor) -> bool:
    """Whether this forward, on `x`, is being written down: by `torch.fx`, `torch.jit` or `torch.export`."""
    return isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing() or is_exporting()  # type: ignore[attr-defined,no-untyped-call]


def is_heard(layer: nn.Module) -> bool:
    """Whether calling `layer` is more than its class's forward: there are hooks, or it has a forward of its own."""
    own = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(own) or "forward" in layer.__dict__ or bool(_module._has_any_global_hook())  # type: ignore[no-untyped-call]


def channels_first(pixels: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W): the same memory, except in an export.

    There, a map in channels_last meets a factor for each channel with a condition on W that torch cannot prove.
    """
    view = pixels.permute(0, 3, 1, 2)
    return view.contiguous() if is_exporting() else view
