"""A convolution whose weight is scaled by a norm with fixed statistics on the way, and its gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Shape(NamedTuple):
    """How a convolution moves over the map, whether a ReLU ends it, and whether that may work in place."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    rectifies: bool
    in_place: bool


def scaled_conv(x: Tensor, conv: Any, norm: Any, shape: Shape, shortcut: Tensor | None = None) -> Tensor:
    """`norm(conv(x)) + shortcut`, rectified if `shape` says so, of which the input is kept, and a ReLU's output.

    Args:
        x: A map (N, C, H, W), of the dtype to compute in.
        conv: A `Conv2d`.
        norm: A BatchNorm in eval mode, or a `FrozenBatchNorm2d`.
        shape: The convolution's.
        shortcut: A map of the dtype of `x`.
    """
    exact = torch.promote_types(norm.running_var.dtype, torch.float32)
    inverse = (norm.running_var.to(exact) + norm.eps).rsqrt()
    affine = (norm.weight, norm.bias, norm.running_mean, inverse)
    folded: Tensor = _ScaledConv.apply(x, conv.weight, conv.bias, *affine, shortcut, shape)
    return folded


def scaled(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight with each filter scaled."""
    return (weight * scale.view(-1, 1, 1, 1)).to(dtype)


class _ScaledConv(torch.autograd.Function):
    """A convolution with `weight * scale` as its weight and `shift` as its bias; the product is not kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        shortcut: Tensor | None,
        shape: Shape,
    ) -> Tensor:
        if not shape.rectifies and x.is_cuda:  # where a bias is a pass of its own, slower than the norm's kernel
            y = F.conv2d(x, weight.to(x.dtype), None, *shape[:4])
            gamma, beta = (None if each is None else each.to(inverse.dtype) for each in (gamma, beta))
            return torch.batch_norm_elemt(y, gamma, beta, _center(mean, bias).to(inverse.dtype), inverse, 0)
        scale = _scale(gamma, inverse)
        center = _center(mean, bias).to(scale.dtype)
        shift = -center * scale if beta is None else torch.addcmul(beta.to(scale.dtype), center, scale, value=-1)
        return _convolved(x, scaled(weight, scale, x.dtype), shift.to(x.dtype), shortcut, shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, gamma, _, mean, inverse, _, ctx.shape = inputs
        rectified = output if ctx.shape.rectifies else None
        ctx.save_for_forward(x, weight, bias, gamma, mean, inverse, rectified)
        if not any(ctx.needs_input_grad[1:4]):
            x = x.new_empty(()).expand(x.shape)  # only its shape is needed
        ctx.save_for_backward(x, weight, bias, gamma, mean, inverse, rectified)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gamma, mean, inverse, rectified = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_gamma, needs_beta, _, _, needs_shortcut = ctx.needs_input_grad[:8]
        stride, padding, dilation, groups = ctx.shape[:4]
        if rectified is not None:
            grad = torch.ops.aten.threshold_backward(grad, rectified, 0)
        scale = _scale(gamma, inverse)
        grad_x, grad_folded, _ = torch.ops.aten.convolution_backward(
            grad,
            x,
            scaled(weight, scale, x.dtype),
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [needs_x, needs_weight or needs_gamma, False],
        )
        grad_weight = grad_bias = grad_gamma = grad_beta = None
        if needs_bias or needs_gamma or needs_beta:
            grad_shift = _sum_of_pixels(grad).to(scale.dtype)
            grad_bias = grad_shift * scale if needs_bias else None
            grad_beta = grad_shift if needs_beta else None
            if needs_gamma:
                grad_scale = (grad_folded * weight).sum((1, 2, 3)) - grad_shift * _center(mean, bias)
                grad_gamma = grad_scale * inverse
        if needs_weight:
            in_place = not torch.is_grad_enabled() and grad_folded.dtype == scale.dtype
            times = torch.Tensor.mul_ if in_place else torch.mul
            grad_weight = times(grad_folded, scale.view(-1, 1, 1, 1)).to(weight.dtype)
        grad_shortcut = grad if needs_shortcut else None
        return grad_x, grad_weight, grad_bias, grad_gamma, grad_beta, None, None, grad_shortcut, None

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor, weight_t: Tensor, bias_t: Any, gamma_t: Any, beta_t: Any, *others: Any) -> Tensor:
        x, weight, bias, gamma, mean, inverse, rectified = ctx.saved_tensors
        shortcut_t = others[2]
        scale = _scale(gamma, inverse)
        shift_t = torch.zeros_like(scale) if beta_t is None else beta_t
        folded_t = scaled(weight_t, scale, x.dtype)
        if bias_t is not None:
            shift_t = shift_t + bias_t * scale
        if gamma_t is not None:
            scale_t = gamma_t * inverse
            shift_t = shift_t - _center(mean, bias) * scale_t
            folded_t = folded_t + scaled(weight, scale_t, x.dtype)
        stride, padding, dilation, groups = ctx.shape[:4]
        place = (stride, padding, dilation, groups)
        y_t = F.conv2d(x, folded_t, shift_t.to(x.dtype), *place) + F.conv2d(
            x_t, scaled(weight, scale, x.dtype), None, *place
        )
        if shortcut_t is not None:
            y_t = y_t + shortcut_t
        return y_t if rectified is None else y_t * (rectified > 0)


def _scale(gamma: Tensor | None, inverse: Tensor) -> Tensor:
    return inverse if gamma is None else inverse * gamma


def _center(mean: Tensor, bias: Tensor | None) -> Tensor:
    """What the norm subtracts from the convolution without its bias."""
    return mean if bias is None else mean - bias


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None, shape: Shape) -> Tensor:
    stride, padding, dilation, groups, rectifies, in_place = shape
    if rectifies and _has_kernel(x, weight):
        if shortcut is None:
            return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, dilation, groups)
        return torch.cudnn_convolution_add_relu(x, weight, shortcut, 1.0, bias, stride, padding, dilation, groups)
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if shortcut is not None:
        y = y.add_(shortcut) if in_place else y + shortcut
    if rectifies:
        y = y.relu_() if in_place else y.relu()
    return y


def _has_kernel(x: Tensor, weight: Tensor) -> bool:
    """Whether cuDNN has convolution, sum and ReLU as one for these."""
    return (
        x.is_cuda
        and x.dtype in (torch.float16, torch.bfloat16)
        and torch.version.hip is None
        and torch.backends.cudnn.is_acceptable(x)  # type: ignore[no-untyped-call]
        and x.shape[1] == weight.shape[1]  # no groups
        and weight.shape[0] % 8 == weight.shape[1] % 8 == 0
    )


def _sum_of_pixels(grad: Tensor) -> Tensor:
    """Of (N, C, H, W), the sums for each channel."""
    if grad.is_cuda and grad.is_contiguous(memory_format=torch.channels_last):  # a product is quicker there than a sum
        pixels = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
        return torch.mv(pixels.t(), pixels.new_ones(len(pixels)))
    return grad.sum((0, 2, 3))
