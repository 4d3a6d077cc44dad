"""A convolution, the norm behind it and what follows: as one, in training, where the norm has fixed statistics."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain as joined
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .frozen_batch_norm import FrozenBatchNorm2d, scale_and_shift
from .scaled_conv import Shape, scaled, scaled_conv
from .tracing import is_heard, is_traced

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)  # by exact type: what a subclass computes is not known
# Weights of a filter for a pixel of its map; beyond that, more time goes into scaling than a norm takes.
_PIXELS_PAY = 2
# Values of a map; on a GPU, smaller ones gain less than launching takes that folding adds: docs/benchmarks/gpu.md.
_LAUNCHES_PAY = 1 << 25


class Chain(nn.Sequential):
    """An `nn.Sequential` that runs its convolutions with the norms behind them, as `conv_norm` does."""

    def forward(self, x: Tensor) -> Tensor:
        """From map to map, through all layers."""
        return run_layers(self, x)


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """`x` through the layers, one after the other; each convolution with the norm and the ReLU behind it, as one."""
    conv: nn.Module | None = None
    norm: nn.Module | None = None
    for layer in joined(layers, (None,)):
        if conv is not None and norm is not None:
            act = layer if type(layer) is nn.ReLU else None
            x, conv, norm = conv_norm(conv, norm, x, act), None, None
            if act is not None:
                continue
        if conv is not None and type(layer) in _NORMS:
            norm = layer
            continue
        if conv is not None:
            x, conv = conv(x), None
        if type(layer) is nn.Conv2d:
            conv = layer
        elif layer is not None:
            x = layer(x)
    return x


def conv_norm(conv: Any, norm: Any, x: Tensor, act: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
    """`act(norm(conv(x)) + shortcut)`; while gradients are recorded, as one convolution where that computes the same.

    That is where a plain `Conv2d` comes before a BatchNorm in eval mode or a `FrozenBatchNorm2d`. Neither the norm's
    input nor a folded weight is kept for the backward pass, and the gradients are exact. Other types run one after the
    other; so do layers with hooks or parametrizations or after `fold_norms(model, False)`, filters with more weights
    than the map has pixels to pay for, small maps on a GPU, and everything that is traced or exported or records no
    gradients. A ReLU is part of that convolution, another activation runs behind it.

    Args:
        conv: A convolution.
        norm: What follows it.
        x: A map (N, C, H, W).
        act: An activation; None: there is none.
        shortcut: What is added before that; None: nothing.
    """
    if not torch.is_grad_enabled() or is_traced(x) or not (_is_one(conv, norm) and _pays(conv, x)):
        y: Tensor = norm(conv(x))
    elif torch.compiler.is_compiling():  # the same gradients; checkpoint tells the compiler not to keep the product
        scale, shift = scale_and_shift(norm)
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        weight: Tensor = checkpoint(scaled, conv.weight, scale, x.dtype, use_reentrant=False)
        y = F.conv2d(x, weight, shift.to(x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups)
    else:
        if _autocasts(x):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        rectifies = type(act) is nn.ReLU and not is_heard(act) and (shortcut is None or shortcut.dtype == x.dtype)
        in_place = getattr(act, "inplace", False)
        shape = Shape(conv.stride, conv.padding, conv.dilation, conv.groups, rectifies, in_place)
        y = scaled_conv(x, conv, norm, shape, shortcut if rectifies else None)
        if rectifies:
            return y
    return followed(y, act, shortcut)


def followed(y: Tensor, act: nn.Module | None, shortcut: Tensor | None) -> Tensor:
    """`act(y + shortcut)`, of which either may be missing."""
    if shortcut is not None:
        y = add(y, shortcut)
    if act is not None:
        y = act(y)
    return y


def add(y: Tensor, shortcut: Tensor) -> Tensor:
    """Their sum; in the memory of `y` where no gradient can need it."""
    if torch.is_grad_enabled() or is_traced(y) or y.dtype != shortcut.dtype:
        return y + shortcut
    return y.add_(shortcut)


def fold_norms(model: nn.Module, enabled: bool = True) -> nn.Module:
    """Switches on or off that `conv_norm` folds the norms of a model.

    Args:
        model: Changed in place.
        enabled: Whether they are folded from now on, as they are by default.

    Returns:
        `model`.
    """
    for module in model.modules():
        if type(module) in _NORMS:
            module._folds = enabled  # type: ignore[assignment]
    return model


def _is_one(conv: Any, norm: Any) -> bool:
    """Whether the two are one convolution, and nothing listens or steps in between."""
    return (
        type(conv) is nn.Conv2d
        and type(norm) in _NORMS
        and (type(norm) is FrozenBatchNorm2d or not norm.training)
        and norm.running_mean is not None
        and norm.num_features == conv.out_channels
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and type(conv.weight) in (Tensor, nn.Parameter)
        and getattr(norm, "_folds", True)
        and not (is_heard(conv) or is_heard(norm))
    )


def _pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the map is large enough to be worth the passes over the weight, and of the dtype that conv takes."""
    if x.dim() != 4 or (x.dtype != conv.weight.dtype and not _autocasts(x)):
        return False
    pixels = x.shape[0] * (x.shape[2] // conv.stride[0]) * (x.shape[3] // conv.stride[1])
    if x.is_cuda and not torch.compiler.is_compiling() and pixels * conv.out_channels < _LAUNCHES_PAY:
        return False
    return conv.weight[0].numel() <= _PIXELS_PAY * pixels


def _autocasts(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
