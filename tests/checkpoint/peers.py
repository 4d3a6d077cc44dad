"""Nets of other libraries with random weights: statistics too, so that a norm that is not served shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomised(net: nn.Module) -> nn.Module:
    """The net in eval, with other values in every tensor than a constructor leaves there."""
    generator = torch.Generator().manual_seed(0)
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.fill_(7)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.ndim <= 1:
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return net.eval()


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())
