"""Exact statistics for BatchNorms."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ..errors import ConfigError


def precise_bn(model: nn.Module, batches: Iterable[Any], device: torch.device | None = None) -> None:
    """Sets the statistics of every BatchNorm that trains to their mean over batches, with `torch.optim.swa_utils`.

    For a model whose weights have been averaged or have moved fast. Other than `update_bn` alone, this keeps the
    statistics of BatchNorms that stay in eval: those of frozen stages, and all under `norm_eval`.

    Args:
        model: Runs on each batch in train mode, without gradients; its modules' modes stay as they are.
        batches: Of pictures; of a list or tuple, its first item.
        device: Where the batches are moved to; None: they stay.

    Raises:
        ConfigError: There is no batch, or a single tensor in place of batches. After this error and any other, the
            statistics are what they were.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3.
    """
    if isinstance(batches, Tensor):
        raise ConfigError("must be a loader or a list of batches, got a tensor; write [pictures]", ("batches",))
    batches = iter(batches)
    first = list(islice(batches, 1))
    if not first:
        raise ConfigError("there is none", ("batches",))
    modes = {module: module.training for module in model.modules()}
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    held = [norm for norm in norms if not norm.training]
    before = [(norm, norm.momentum, {name: b.clone() for name, b in norm.named_buffers()}) for norm in norms]
    try:
        for norm in held:
            norm.track_running_stats = False  # what is not tracked is not reset; in eval it is used all the same
        update_bn(chain(first, batches), model, device)
    except BaseException:
        for norm, momentum, statistics in before:
            norm.momentum = momentum
            norm.load_state_dict(statistics, strict=False)
        raise
    finally:
        for norm in held:
            norm.track_running_stats = True
        for module, mode in modes.items():
            module.training = mode
