"""Whether a forward is being recorded, where it has to be written in another way."""

from __future__ import annotations

import torch
from torch import Tensor


def is_exporting() -> bool:
    """Whether this runs under `torch.export`; before torch 2.7, whether under any compiler."""
    known = getattr(torch.compiler, "is_exporting", None)
    return known() if known is not None else torch.compiler.is_compiling()


def channels_first(pixels: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W): the same memory, except in an export.

    There, a map in channels_last meets a factor for each channel with a condition on W that torch cannot prove.
    """
    view = pixels.permute(0, 3, 1, 2)
    return view.contiguous() if is_exporting() else view
