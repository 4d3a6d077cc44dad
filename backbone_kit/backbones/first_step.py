"""What makes training pointless from the first step on, said once before it."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

STACK_LEVEL = 6  # the caller of the net: over here, Backbone's check and forward, and two frames of nn.Module


def warn_of_unloaded_weights(net: nn.Module, named: str) -> None:
    """Says that `init_weights` was never called, though `named` was to fill the weights.

    Statistics of a norm that have moved show that weights came from elsewhere; then nothing is said.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
    if not norms or any(map(_is_initial, norms)):
        warnings.warn(
            f"{type(net).__name__} trains without {named}: init_weights() was never called "
            "(build_backbone(cfg, init=True) does)",
            stacklevel=STACK_LEVEL,
        )


def warn_of_initial_statistics(net: nn.Module, cause: str) -> None:
    """Says that a BatchNorm runs on statistics that nothing has ever moved.

    Args:
        net: The net that starts to train.
        cause: The argument that keeps norms in eval.
    """
    for name, layer in net.named_modules():
        if isinstance(layer, _BatchNorm) and not layer.training and _is_initial(layer):
            warnings.warn(
                f"{type(net).__name__} trains with {name!r} on running statistics that are still 0 and 1 ({cause}): "
                "load weights first, or train from scratch with norm_eval=False and frozen_stages=-1",
                stacklevel=STACK_LEVEL,
            )
            return


def _is_initial(norm: _BatchNorm) -> bool:
    """Whether nothing has moved this norm; one with fused weights, of mean 0 and variance 1, has a bias."""
    if norm.running_mean is None or norm.running_var is None or norm.running_mean.is_meta:
        return False
    moved = norm.running_mean.any() or (norm.running_var != 1).any() or (norm.bias is not None and norm.bias.any())
    return not moved
