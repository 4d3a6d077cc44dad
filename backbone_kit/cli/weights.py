"""A config's backbone with the weights that `--weights` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..backbones import Backbone, build_backbone
from .parser import CommandError


def build_with_weights(config: Mapping[str, Any], *, at: str | None, weights: str | None) -> tuple[Backbone, str]:
    """The backbone, and where its weights come from, in words.

    Args:
        config: The whole config.
        at: Where the backbone is in it, None for the usual places.
        weights: A checkpoint, 'config' for what the config names, None for random ones from seed 0.

    Raises:
        CommandError: The config names no checkpoint.
    """
    torch.manual_seed(0)
    model = build_backbone(config, at=at, init=weights == "config", pretrained=weights if weights != "config" else None)
    if weights == "config" and model.load_report is None:
        raise CommandError("--weights config: the config names no checkpoint")
    return model, model.load_report.source if model.load_report else "random (seed 0; see --weights)"
