"""Deformable convolution in plain PyTorch: no compiled extension, any device, exportable.

Source: Dai et al., Deformable Convolutional Networks, arXiv 1703.06211, section 2.1; with `mask`, Zhu et al.,
Deformable ConvNets v2, arXiv 1811.11168, section 3.2.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


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
    y, x = _positions(offset, groups, weight.shape[3], _pair(stride), _pair(padding), _pair(dilation))
    rows, index, share = _corners(input, y, x)
    if mask is not None:
        share = share * _by_sample(mask, groups, 1)
    samples = _weighted_sum(rows, index.reshape(-1, 4), share.reshape(-1, 4).to(rows.dtype))
    return _contract(samples, y.shape[:3], weight, bias, channels // weight.shape[1])


def _positions(
    offset: Tensor,
    groups: int,
    kernel_width: int,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Where every sample is read: y and x in input pixels, shape (N, H', W', K, G) each, in float32 at least."""
    move = _by_sample(offset.to(torch.promote_types(offset.dtype, torch.float32)), groups, 2)
    _, out_height, out_width, taps, *_ = move.shape
    tap = torch.arange(taps, device=offset.device).view(-1, 1)
    row = torch.arange(out_height, device=offset.device).view(-1, 1, 1, 1)
    column = torch.arange(out_width, device=offset.device).view(-1, 1, 1)
    y = row * stride[0] - padding[0] + tap // kernel_width * dilation[0]
    x = column * stride[1] - padding[1] + tap % kernel_width * dilation[1]
    return move[..., 0] + y, move[..., 1] + x


def _corners(input: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Samples as weighted sums of the four pixels around them.

    The map gets two pixels of zeros on every side. The corners of every position in [-2, size] are real rows then, and
    at both ends of that range, where positions further out are clamped to, all four of them are zero.

    Returns:
        `(rows, index, share)`: pixels, shape (N·(H+4)·(W+4)·G, C/G); rows and factors, shape (N, H', W', K, G, 4) each.
    """
    (n, channels, height, width), groups = input.shape, y.shape[-1]
    rows = F.pad(input.permute(0, 2, 3, 1), (0, 0, 2, 2, 2, 2)).reshape(-1, channels // groups)
    y, x = y.clamp(-2, height), x.clamp(-2, width)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    up = 1 - down
    up_right, down_right = up * right, down * right
    share = torch.stack((up - up_right, up_right, down - down_right, down_right), -1)

    image = torch.arange(n, device=input.device).view(-1, 1, 1, 1, 1)
    line = image * (height + 4) + top.nan_to_num().long() + 2  # NaN stays in `share` and has no row
    pixel = line * (width + 4) + left.nan_to_num().long() + 2
    first = pixel * groups + torch.arange(groups, device=input.device)
    below = first + (width + 4) * groups
    return rows, torch.stack((first, first + groups, below, below + groups), -1), share


def _weighted_sum(rows: Tensor, index: Tensor, share: Tensor) -> Tensor:
    """Sum over j of share(i, j) · rows(index(i, j)) for every i."""
    constant = share.requires_grad and not rows.requires_grad
    if torch.compiler.is_compiling() or (constant and not _sums_constant_rows()):
        return (rows[index] * share.unsqueeze(-1)).sum(1)  # a gather, which a compiler fuses and an exporter knows
    # one multithreaded pass over contiguous rows
    return F.embedding_bag(index, rows, mode="sum", per_sample_weights=share)


@functools.cache
def _sums_constant_rows() -> bool:
    """Whether `embedding_bag` has a gradient for its factors alone; torch 2.4 fails there."""
    rows, index = torch.zeros(1, 1, device="cpu"), torch.zeros(1, 1, dtype=torch.long, device="cpu")
    try:
        with torch.enable_grad():
            F.embedding_bag(index, rows, mode="sum", per_sample_weights=rows.clone().requires_grad_())
    except RuntimeError:
        return False
    return True


def _contract(samples: Tensor, size: torch.Size, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Samples, in the order (N, H', W', K, C), times the kernel; as a convolution, in which oneDNN is fastest."""
    n, height, width = size
    out_channels, group_channels, *kernel_size = weight.shape
    taps = kernel_size[0] * kernel_size[1]
    pixels = samples.view(n * height * width, taps * groups * group_channels)
    if groups == 1:  # a 1x1 convolution over K·C channels
        columns = torch.unflatten(pixels, 0, (n, height, width))
        kernel = weight.permute(0, 2, 3, 1).reshape(out_channels, taps * group_channels, 1, 1)
    else:  # taps side by side, so that groups of channels stay whole
        columns = pixels.view(n, height * width, taps, groups * group_channels)
        kernel = weight.reshape(out_channels, group_channels, 1, taps)
    return F.conv2d(columns.permute(0, 3, 1, 2), kernel, bias, groups=groups).view(n, out_channels, height, width)


def _by_sample(x: Tensor, groups: int, values: int) -> Tensor:
    """What `offset` or `mask` says of every sample: (N, G·K·values, H', W') as (N, H', W', K, G, values)."""
    return torch.unflatten(x.permute(0, 2, 3, 1).contiguous(), -1, (groups, -1, values)).transpose(3, 4)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
