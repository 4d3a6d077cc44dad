"""Deformable convolution in plain PyTorch: no compiled extension, any device, exportable.

Source: Dai et al., Deformable Convolutional Networks, arXiv 1703.06211, section 2.1; with `mask`, Zhu et al.,
Deformable ConvNets v2, arXiv 1811.11168, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .deform_product import FastProduct, plain_product
from .deform_samples import MARGIN, Geometry, corners
from .onnx_deform_conv import deform_conv_node, is_node_wanted


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """A convolution whose taps read the map where `offset` moves them; the equal of `torchvision.ops.deform_conv2d`.

    y(p) = sum over taps k of w(k) · mask(k, p) · x(p · stride - padding + k · dilation + offset(k, p)), with x bilinear
    between pixels and zero outside the map.

    Args:
        input: The map, shape (N, C, H, W).
        offset: Displacements in input pixels, shape (N, 2·G·K, H', W'): for each of G groups of C/G channels that move
            together and each of K = kh·kw taps in row-major order, (dy, dx). H' and W' are those of `F.conv2d`.
        weight: The kernel, shape (O, C/groups, kh, kw).
        bias: Shape (O,), or None.
        stride: In input pixels, one for both axes or (vertical, horizontal).
        padding: Zeros on every side, in input pixels.
        dilation: Distance between taps, in input pixels.
        mask: A factor for every sample, shape (N, G·K, H', W'); None means 1.

    Returns:
        Shape (N, O, H', W').

    Raises:
        ValueError: The channels of `offset` or `mask` do not fit those of `input` and the taps of `weight`.

    Examples:
        >>> import torch.nn.functional as F
        >>> x, kernel = torch.randn(1, 4, 8, 8), torch.randn(6, 4, 3, 3)
        >>> still = deform_conv2d(x, torch.zeros(1, 18, 8, 8), kernel, padding=1)
        >>> torch.allclose(still, F.conv2d(x, kernel, padding=1), atol=1e-5)
        True
    """
    channels, taps = input.shape[1], weight.shape[2] * weight.shape[3]
    groups = offset.shape[1] // (2 * taps)
    if not groups or offset.shape[1] != 2 * taps * groups or channels % groups:
        needed = f"{2 * taps} (two for each tap) times a divisor of the map's {channels}"
        raise ValueError(f"`offset` has {offset.shape[1]} channels; it needs {needed}")
    if mask is not None and mask.shape[1] != taps * groups:
        raise ValueError(f"`mask` has {mask.shape[1]} channels; it needs {taps * groups}, half of what `offset` has")
    kernel = (weight.shape[2], weight.shape[3])
    geometry = Geometry(kernel, _pair(stride), _pair(padding), _pair(dilation), groups)
    if is_node_wanted():
        return deform_conv_node(input, offset, weight, bias, mask, geometry)
    if _recorded() or input.device.type not in ("cpu", "cuda", "meta"):
        index, share = corners(input.shape, offset, mask, geometry, 1, torch.int64)
        return plain_product(input, share, weight, bias, index)
    input, weight = _autocast(input), _autocast(weight)
    bias = None if bias is None else _autocast(bias)
    parts = 1 if input.dtype.itemsize == 2 else kernel[0]  # half precision would round the sum of parts each time
    num_rows = input.shape[0] * (input.shape[2] + 2 * MARGIN) * (input.shape[3] + 2 * MARGIN) * groups
    small = max(num_rows, 4 * offset.numel()) < 2**31
    index, share = corners(input.shape, offset, mask, geometry, parts, torch.int32 if small else torch.int64)
    y: Tensor = FastProduct.apply(input, share, weight, bias, index)
    return y


def _recorded() -> bool:
    """Whether a compiler or an exporter looks on; those take plain operators."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]


def _autocast(x: Tensor) -> Tensor:
    """What autocast does to the arguments of a convolution."""
    device = x.device.type
    if device == "meta" or x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
