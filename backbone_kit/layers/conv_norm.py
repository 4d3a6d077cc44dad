"""A convolution and the norm behind it: as one convolution, in training, where the norm has fixed statistics."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain as joined
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .frozen_batch_norm import FrozenBatchNorm2d, scale_and_shift
from .tracing import is_heard, is_traced

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)  # by exact type: what a subclass computes is not known
_PIXELS_PAY = (
    2  # Weights of a filter for a pixel of its map; beyond that, more time goes into scaling than a norm takes.
)


class Chain(nn.Sequential):
    """An `nn.Sequential` that runs its convolutions with the norms behind them, as `conv_norm` does."""

    def forward(self, x: Tensor) -> Tensor:
        """From map to map, through all layers."""
        return run_layers(self, x)


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """`x` through the layers, one after the other; each convolution with the norm behind it, as `conv_norm` does."""
    conv: nn.Module | None = None
    for layer in joined(layers, (None,)):
        if conv is not None and type(layer) in _NORMS:
            x, conv = conv_norm(conv, layer, x), None
            continue
        if conv is not None:
            x, conv = conv(x), None
        if type(layer) is nn.Conv2d:
            conv = layer
        elif layer is not None:
            x = layer(x)
    return x


def conv_norm(conv: Any, norm: Any, x: Tensor) -> Tensor:
    """`norm(conv(x))`; while gradients are recorded, as one convolution where that computes the same.

    That is where a plain `Conv2d` comes before a BatchNorm in eval mode or a `FrozenBatchNorm2d`. Neither the norm's
    input nor a folded weight is kept for the backward pass, and the gradients are exact. Other types run one after the
    other; so do layers with hooks or parametrizations or after `fold_norms(model, False)`, filters with more weights
    than the map has pixels to pay for, and everything that is traced or exported or records no gradients.

    Args:
        conv: A convolution.
        norm: What follows it.
        x: A map (N, C, H, W).
    """
    if not torch.is_grad_enabled() or is_traced(x) or not (_is_one(conv, norm) and _pays(conv, x)):
        y: Tensor = norm(conv(x))
        return y
    scale, shift = scale_and_shift(norm)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    shape = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if torch.compiler.is_compiling():  # the same gradients; checkpoint tells the compiler not to keep the product
        weight: Tensor = checkpoint(_scaled, conv.weight, scale, x.dtype, use_reentrant=False)
        return F.conv2d(x, weight, shift.to(x.dtype), *shape)
    if _autocasts(x):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    folded: Tensor = _ScaledConv.apply(x, conv.weight, scale, shift, shape)
    return folded


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
    return conv.weight[0].numel() <= _PIXELS_PAY * pixels


def _autocasts(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _scaled_conv(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, shape: tuple[Any, ...]) -> Tensor:
    return F.conv2d(x, _scaled(weight, scale, x.dtype), shift.to(x.dtype), *shape)


def _scaled(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight * scale.view(-1, 1, 1, 1)).to(dtype)


class _ScaledConv(torch.autograd.Function):
    """A convolution with `weight * scale` as its weight and `shift` as its bias; the product is not kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, shape: tuple[Any, ...]) -> Tensor:
        return _scaled_conv(x, weight, scale, shift, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, scale, _, ctx.shape = inputs
        ctx.save_for_forward(x, weight, scale)
        if not any(ctx.needs_input_grad[1:3]):
            x = x.new_empty(()).expand(x.shape)  # only its shape is needed
        ctx.save_for_backward(x, weight, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        needs_x, needs_weight, needs_scale, needs_shift, _ = ctx.needs_input_grad
        stride, padding, dilation, groups = ctx.shape
        grad_x, grad_folded, grad_shift = torch.ops.aten.convolution_backward(
            grad,
            x,
            _scaled(weight, scale, x.dtype),
            [weight.shape[0]],
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [needs_x, needs_weight or needs_scale, needs_shift],
        )
        grad_scale = (grad_folded * weight).sum((1, 2, 3)).to(scale.dtype) if needs_scale else None
        grad_weight = None
        if needs_weight:
            in_place = not torch.is_grad_enabled() and grad_folded.dtype == scale.dtype
            scaled = torch.Tensor.mul_ if in_place else torch.mul
            grad_weight = scaled(grad_folded, scale.view(-1, 1, 1, 1)).to(weight.dtype)
        return grad_x, grad_weight, grad_scale, grad_shift, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor, weight_t: Tensor, scale_t: Tensor, shift_t: Tensor, _: None) -> Tensor:
        x, weight, scale = ctx.saved_tensors
        folded_t = _scaled(weight_t, scale, x.dtype) + _scaled(weight, scale_t, x.dtype)
        return _scaled_conv(x_t, weight, scale, shift_t, ctx.shape) + F.conv2d(x, folded_t, None, *ctx.shape)
