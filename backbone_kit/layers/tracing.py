"""Whether a forward is being recorded, where it has to be written in another way."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Whether this runs under `torch.export`; before torch 2.7, whether under any compiler."""
    known = getattr(torch.compiler, "is_exporting", None)
    return known() if known is not None else torch.compiler.is_compiling()
