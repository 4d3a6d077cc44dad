"""What a config builds, found on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
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
    """`analyze`, with words for a size that the net cannot take."""
    try:
        return analyze(model, size)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CommandError(f"{type(model).__name__} cannot take {size[0]}x{size[1]} pixels: {reason}") from error
