"""Exact statistics for BatchNorms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


def precise_bn(model: nn.Module, batches: Iterable[Any], device: torch.device | None = None) -> None:
    """Sets the statistics of every BatchNorm that trains to their mean over batches, with `torch.optim.swa_utils`.

    For a model whose weights have been averaged or have moved fast. Other than `update_bn` alone, this keeps the
    statistics of BatchNorms that stay in eval: those of frozen stages, and all under `norm_eval`.

    Args:
        model: Runs on each batch in train mode, without gradients.
        batches: Of pictures; of a list or tuple, its first item.
        device: Where the batches are moved to; None: they stay.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3.
    """
    was_training = model.training
    model.train()
    held = [m for m in model.modules() if isinstance(m, _BatchNorm) and not m.training and m.track_running_stats]
    try:
        for norm in held:
            norm.track_running_stats = False  # what is not tracked is not reset; in eval it is used all the same
        update_bn(batches, model, device)
    finally:
        for norm in held:
            norm.track_running_stats = True
        model.train(was_training)
