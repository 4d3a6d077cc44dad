"""Where a deformable convolution reads its map: every sample as a weighted sum of the four pixels around it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 2
"""Pixels of zeros on every side of the map.

The corners of every position in [-2, size] are real pixels then, and at both ends of that range, where positions
further out are clamped to, all four of them are zero.
"""


class Geometry(NamedTuple):
    """What a deformable convolution is beside its tensors; pairs are (vertical, horizontal).

    Attributes:
        kernel: Size of the kernel.
        stride, padding, dilation: In input pixels.
        moving: How many groups of channels move on their own.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    moving: int


def pixel_rows(input: Tensor, moving: int) -> Tensor:
    """The map (N, C, H, W) within its margin as rows, one a pixel and moving group: (N·(H+4)·(W+4)·G, C/G)."""
    padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, MARGIN, MARGIN, MARGIN, MARGIN))
    return padded.reshape(-1, input.shape[1] // moving)


def corners(
    size: torch.Size, offset: Tensor, mask: Tensor | None, geometry: Geometry, parts: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The four pixels of every sample.

    Args:
        size: The map's (N, C, H, W).
        offset: Displacements (dy, dx), shape (N, G·K·2, H', W').
        mask: Factors, shape (N, G·K, H', W'); None means 1.
        geometry: Of the convolution.
        parts: How many parts of equal length the K taps are told in.
        dtype: Of `index`.

    Returns:
        `(index, share)`: which of `pixel_rows`, and factors, in float32 at least; shape
        (parts, N, H', W', K / parts, G, 4) each.
    """
    n, _, height, width = size
    groups, wide = geometry.moving, width + 2 * MARGIN
    y, x = _positions(offset, geometry, parts)
    y, x = y.clamp(-MARGIN, height), x.clamp(-MARGIN, width)
    top, left = y.detach().floor(), x.detach().floor()
    down, right = y - top, x - left
    up = 1 - down
    if mask is not None:
        factor = _by_sample(mask, groups, parts, 1).squeeze(-1)
        up, down = up * factor, down * factor
    up_right, down_right = up * right, down * right
    share = torch.stack((up - up_right, up_right, down - down_right, down_right), -1)

    # clamped once more: NaN, which stays in `share`, may be any integer here
    line, column = top.to(dtype).clamp(-MARGIN, height), left.to(dtype).clamp(-MARGIN, width)
    image = torch.arange(n, device=offset.device, dtype=dtype).view(-1, 1, 1, 1, 1)
    first = line * wide + column + ((image * (height + 2 * MARGIN) + MARGIN) * wide + MARGIN)
    if groups > 1:
        first = first * groups + torch.arange(groups, device=offset.device, dtype=dtype)
    below = first + wide * groups
    return torch.stack((first, first + groups, below, below + groups), -1), share


def _positions(offset: Tensor, geometry: Geometry, parts: int) -> tuple[Tensor, Tensor]:
    """Where every sample is read: y and x in input pixels, shape (parts, N, H', W', K / parts, G) each."""
    move = _by_sample(offset.to(torch.promote_types(offset.dtype, torch.float32)), geometry.moving, parts, 2)
    height, width = geometry.kernel
    tap = torch.arange(height * width, device=offset.device).view(parts, 1, 1, 1, -1, 1)
    row = torch.arange(move.shape[2], device=offset.device).view(-1, 1, 1, 1)
    column = torch.arange(move.shape[3], device=offset.device).view(-1, 1, 1)
    y = row * geometry.stride[0] - geometry.padding[0] + tap // width * geometry.dilation[0]
    x = column * geometry.stride[1] - geometry.padding[1] + tap % width * geometry.dilation[1]
    return move[..., 0] + y, move[..., 1] + x


def _by_sample(x: Tensor, groups: int, parts: int, values: int) -> Tensor:
    """`offset` or `mask`, (N, G·K·values, H', W'), by sample: (parts, N, H', W', K / parts, G, values)."""
    split = torch.unflatten(x, 1, (groups, parts, -1, values))
    return split.permute(2, 0, 5, 6, 3, 1, 4).contiguous()
