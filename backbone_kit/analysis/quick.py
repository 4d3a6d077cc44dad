"""Results on the meta device of the most common operations.

PyTorch's own meta kernels of these import sympy and torch._dynamo on their first call: 1.2 s for shapes that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload


def empty_like(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A meta tensor of the same shape, strides and type; `torch.empty_like` is one of the slow ones."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _itself(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x


def _norm(x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_like(x), x.new_empty(0), x.new_empty(0)


def _layer_norm(x: Tensor, normalized_shape: Sequence[int], *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    if list(x.shape[x.ndim - len(normalized_shape) :]) != list(normalized_shape):
        own = torch.ops.aten.native_layer_norm.default  # has the words for what does not fit
        return own(x, normalized_shape, *args)  # type: ignore[no-any-return]
    return _norm(x)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    rank = weight.ndim - 2
    stride, padding, dilation = (list(n) * rank if len(n) == 1 else n for n in (stride, padding, dilation))
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=False)
    ]
    if transposed or x.ndim != rank + 2 or x.shape[1] != weight.shape[1] * groups or min(size) < 1:
        own = torch.ops.aten.convolution.default  # has the words for what does not fit
        return own(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)  # type: ignore[no-any-return]
    return x.new_empty((x.shape[0], weight.shape[0], *size))


def _max_pool2d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    numbers = (list(n) * 2 if len(n) == 1 else n for n in (kernel_size, stride or kernel_size, padding, dilation))
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(x.shape[-2:], *numbers, strict=True)]
    if ceil_mode or min(size) < 1:
        own = torch.ops.aten.max_pool2d_with_indices.default
        return own(x, kernel_size, stride, padding, dilation, ceil_mode)  # type: ignore[no-any-return]
    shape = (*x.shape[:-2], *size)
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int64)


def _broadcast(op: OpOverload) -> Callable[..., Tensor]:
    def of_two(x: Any, y: Any, **kwargs: Any) -> Tensor:
        alike = all(isinstance(value, Tensor) for value in (x, y)) and (x.dtype, x.ndim) == (y.dtype, y.ndim)
        if not alike or any(m != n and 1 not in (m, n) for m, n in zip(x.shape, y.shape, strict=True)):
            return op(x, y, **kwargs)  # type: ignore[no-any-return]
        return empty_like(x) if x.shape == y.shape else x.new_empty([*map(max, x.shape, y.shape)])

    return of_two


def _add_(x: Tensor, y: Any, **kwargs: Any) -> Tensor:
    if isinstance(y, Tensor) and (x.dtype, x.shape) == (y.dtype, y.shape):
        return x
    return torch.ops.aten.add_.Tensor(x, y, **kwargs)  # type: ignore[no-any-return]


def _named(result: Callable[..., Any], names: str) -> dict[str, Callable[..., Any]]:
    return {f"aten::{name}": result for name in names.split()}


QUICK: dict[str, Callable[..., Any]] = {
    **_named(_convolution, "convolution"),
    **_named(_max_pool2d, "max_pool2d_with_indices"),
    **_named(_norm, "native_batch_norm native_group_norm"),
    **_named(_layer_norm, "native_layer_norm"),
    **_named(_broadcast(torch.ops.aten.add.Tensor), "add.Tensor"),
    **_named(_add_, "add_.Tensor"),
    **_named(_broadcast(torch.ops.aten.mul.Tensor), "mul.Tensor"),
    **_named(empty_like, "relu gelu silu sigmoid hardtanh hardswish hardsigmoid leaky_relu elu"),
    **_named(_itself, "relu_ silu_ sigmoid_ hardtanh_ hardswish_ hardsigmoid_ leaky_relu_ elu_"),
}
