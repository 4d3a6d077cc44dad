"""What a config builds, found on the meta device."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..analysis import Report, analyze
from ..backbones import build_backbone
from .parser import CommandError


def predict(config: Mapping[str, Any], size: tuple[int, int], *, at: str | None) -> tuple[str, Report]:
    """The class of a config's backbone and its report, without any memory for weights or maps."""
    with torch.device("meta"):
        model = build_backbone(config, at=at)
    return type(model).__name__, report_on(model, size)


def report_on(model: nn.Module, size: tuple[int, int]) -> Report:
    """`analyze`, with words for a forward that fails."""
    with running(model, size):
        return analyze(model, size)


@contextmanager
def running(model: nn.Module, size: tuple[int, int]) -> Iterator[None]:
    """Turns whatever a forward of `size` raises into one message, with the innermost layer that it came from.

    Raises:
        CommandError: The forward raised.
    """
    try:
        yield
    except Exception as error:  # whoever wrote the layers
        reason = (str(error).strip() or "no message").splitlines()[0]
        reason = reason if isinstance(error, (RuntimeError, ValueError)) else f"{type(error).__name__}: {reason}"
        message = f"{type(model).__name__} cannot run on {size[0]}x{size[1]} pixels: {_place(model, error)}{reason}"
        raise CommandError(message) from error


def _place(model: nn.Module, error: Exception) -> str:
    """'layer1.0.bn1 (LayerNorm): ' for the innermost layer on the stack of an error, '' where there is none."""
    names = {id(module): name for name, module in model.named_modules() if name}
    callers = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [f"{names[id(caller)]} ({type(caller).__name__}): " for caller in callers if id(caller) in names]
    return layers[-1] if layers else ""
