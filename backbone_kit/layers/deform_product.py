"""Samples of a map times a kernel: in plain operators, and with the same result in less time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .deform_samples import MARGIN, pixel_rows
from .tracing import is_exporting


def plain_product(input: Tensor, share: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor) -> Tensor:
    """In operators that compilers and exporters know, and that can be differentiated any number of times.

    Args:
        input: The map, shape (N, C, H, W).
        share, index: As `corners` gives them; in one part.
        weight: The kernel, shape (O, C/groups, kh, kw).
        bias: Shape (O,), or None.

    Returns:
        Shape (N, O, H', W').
    """
    rows = pixel_rows(input, index.shape[5])
    factors = share.to(rows.dtype).unsqueeze(-1).unbind(-2)
    top_left, *others = (F.embedding(where, rows) * factor for where, factor in zip(index.unbind(-1), factors))
    samples = sum(others, top_left).squeeze(0)  # of one part: (N, H', W', K, G, C/G)

    groups = input.shape[1] // weight.shape[1]
    by_tap = weight.flatten(2).transpose(1, 2).flatten(1)
    by_group = torch.unflatten(samples.flatten(4), 4, (groups, -1)).transpose(3, 4)  # (N, H', W', groups, K, C/groups)
    if is_exporting():  # which cannot prove for every size what it takes to merge N, H' and W'
        return F.conv2d(by_group.flatten(3).permute(0, 3, 1, 2), by_tap[..., None, None], bias, groups=groups)
    # inductor cannot size a convolution of any number of pixels
    columns = by_group.permute(3, 0, 1, 2, 4, 5).flatten(4).flatten(1, 3)
    out = columns @ torch.unflatten(by_tap, 0, (groups, -1)).transpose(1, 2)
    out = out.transpose(0, 1).reshape(*index.shape[1:4], len(weight))
    return (out if bias is None else out + bias.to(out.dtype)).permute(0, 3, 1, 2)


class FastProduct(torch.autograd.Function):
    """`plain_product`, part by part: what takes memory, the samples, is never there as a whole.

    They are made again in backward; what is kept are the arguments.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, share: Tensor, weight: Tensor, bias: Tensor | None, index: Tensor) -> Tensor:
        """The product, channels last."""
        ctx.save_for_backward(input, share, weight, bias, index)
        rows, conv = pixel_rows(input, index.shape[5]), _Convolution(weight, index, input)
        factors = share.to(rows.dtype)
        out: Tensor | None = None
        for part, kernel in enumerate(conv.kernels(weight)):
            columns = conv.columns(_weighted_sum(rows, index[part], factors[part]))
            y = F.conv2d(columns, kernel, bias if part == 0 else None, dilation=conv.dilation, groups=conv.groups)
            out = y if out is None else out.add_(y)
            del columns, y
        assert out is not None
        return out.view(conv.out_shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, share, weight and bias."""
        if torch.is_grad_enabled():  # they are to be differentiated again
            return _differentiable_backward(ctx, grad)
        input, share, weight, _, index = ctx.saved_tensors
        of_input, of_share, of_weight, of_bias, _ = ctx.needs_input_grad
        rows, conv = pixel_rows(input, index.shape[5]), _Convolution(weight, index, input)
        factors, grad = share.detach().to(rows.dtype), conv.as_output(grad)

        row_grad = rows.new_zeros(rows.shape, dtype=torch.promote_types(rows.dtype, torch.float32))
        share_grad, weight_grad = torch.empty_like(factors), weight.new_empty(weight.shape)
        for part, kernel in enumerate(conv.kernels(weight)):
            columns = conv.columns(_weighted_sum(rows, index[part], factors[part]))
            column_grad, kernel_grad = conv.backward(grad, columns, kernel)
            conv.part_of(weight_grad, part).copy_(conv.as_part(kernel_grad))
            sample_grad = column_grad.permute(0, 2, 3, 1).reshape(-1, rows.shape[1])
            del columns, column_grad, kernel_grad
            if of_share:
                share_grad[part] = _inner_products(sample_grad, rows, index[part])
            if of_input:
                row_grad += _scattered_sum(sample_grad, index[part], factors[part], len(rows))
            del sample_grad
        return (
            _as_map(row_grad, input) if of_input else None,
            share_grad.to(share.dtype) if of_share else None,
            weight_grad if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _differentiable_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, share, weight, bias, index = ctx.saved_tensors
    whole = [torch.cat(tuple(t), 3).unsqueeze(0) for t in (share, index)]  # parts are rows of the kernel
    out = plain_product(input, whole[0], weight, bias, whole[1])
    needed = [tensor for tensor, wanted in zip(ctx.saved_tensors, ctx.needs_input_grad) if wanted]
    grads = iter(torch.autograd.grad(out, needed, grad, create_graph=True))
    return tuple(next(grads) if wanted else None for wanted in ctx.needs_input_grad)


class _Convolution:
    """A part's samples times its share of the kernel, as a convolution: in that, oneDNN is fastest.

    In one group it is a 1x1 over taps and channels. In several, taps stand side by side, so that groups of channels
    stay whole.

    Args:
        weight, index, input: Of the whole.
    """

    def __init__(self, weight: Tensor, index: Tensor, input: Tensor) -> None:
        self.parts, n, height, width, self.taps = index.shape[:5]
        channels = input.shape[1]
        self.groups = channels // weight.shape[1]
        self.out_shape = (n, weight.shape[0], height, width)
        pixels = (height, width, self.taps * channels) if self.groups == 1 else (height * width, self.taps, channels)
        self.columns_shape = (n, *pixels)
        # Without effect on one tap, but where there is one thread, torch would take a library half as fast.
        self.dilation = 2 if self.groups == 1 and input.device.type == "cpu" else 1

    def kernels(self, weight: Tensor) -> Iterator[Tensor]:
        """The kernel of each part."""
        for part in range(self.parts):
            kernel = self.part_of(weight, part)
            if self.groups > 1:
                yield kernel.unsqueeze(2)
            else:
                yield kernel.transpose(1, 2).reshape(len(weight), -1, 1, 1)

    def as_part(self, kernel: Tensor) -> Tensor:
        """What `kernels` made of a part, as `part_of` gives it."""
        if self.groups > 1:
            return kernel.squeeze(2)
        return kernel.view(len(kernel), self.taps, -1).transpose(1, 2)

    def part_of(self, weight: Tensor, part: int) -> Tensor:
        """A part's taps, shape (O, C/groups, K / parts)."""
        return weight.flatten(2).narrow(2, part * self.taps, self.taps)

    def columns(self, samples: Tensor) -> Tensor:
        """Samples, in the order (N, H', W', K, C), as the convolution takes them."""
        return samples.view(self.columns_shape).permute(0, 3, 1, 2)

    def as_output(self, grad: Tensor) -> Tensor:
        """A gradient of shape (N, O, H', W') as one of what the convolution returns."""
        grad = grad.contiguous(memory_format=torch.channels_last)
        return grad if self.groups == 1 else grad.flatten(2).unsqueeze(3)

    def backward(self, grad: Tensor, columns: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `columns` and `kernel`."""
        geometry: list[Any] = [[1, 1], [0, 0], [self.dilation] * 2, False, [0, 0], self.groups]
        grads = torch.ops.aten.convolution_backward(grad, columns, kernel, None, *geometry, [True, True, False])
        return grads[0], grads[1]


def _weighted_sum(rows: Tensor, index: Tensor, share: Tensor) -> Tensor:
    """Sum over j of share(i, j) · rows(index(i, j)) for every i: one multithreaded pass over contiguous rows."""
    bags, factors = index.reshape(-1, index.shape[-1]), share.reshape(-1, index.shape[-1])
    return F.embedding_bag(bags, rows, mode="sum", per_sample_weights=factors)


def _scattered_sum(grad: Tensor, index: Tensor, share: Tensor, num_rows: int) -> Tensor:
    """The gradient of `rows` in `_weighted_sum`: such a sum itself, over all i and j that lead to a row."""
    by_row, order = index.reshape(-1).sort(stable=True)
    number = torch.arange(num_rows, device=index.device, dtype=index.dtype)
    starts = torch.searchsorted(by_row, number, out_int32=index.dtype == torch.int32)
    bags = order.div(index.shape[-1], rounding_mode="floor").to(index.dtype)
    return F.embedding_bag(bags, grad, starts, mode="sum", per_sample_weights=share.reshape(-1).index_select(0, order))


def _inner_products(grad: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """The gradient of `share` in `_weighted_sum`: grad(i) · rows(index(i, j)) for all i and j."""
    bag = torch.arange(len(grad), device=index.device, dtype=index.dtype)
    starts, bag_of = bag * index.shape[-1], bag.repeat_interleave(index.shape[-1])
    backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
    products: Tensor = backward(grad, rows, index.reshape(-1), starts, bag_of, mode=0)  # 'sum'
    return products.view(index.shape)


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """`pixel_rows` the other way round."""
    n, channels, height, width = like.shape
    padded = rows.view(n, height + 2 * MARGIN, width + 2 * MARGIN, channels)
    return padded[:, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(0, 3, 1, 2).to(like.dtype)
