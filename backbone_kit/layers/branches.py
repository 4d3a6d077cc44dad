"""Parallel linear branches: trained side by side, merged into one convolution afterwards.

A branch is a convolution and its norm (children `conv` and `bn1`, or what the norm is called), or a norm alone.

Source: Ding et al., RepVGG: Making VGG-style ConvNets Great Again, arXiv 2101.03697, section 3.3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError, located
from .conv import ConvCfg, build_conv_layer
from .conv_norm import Chain
from .frozen_batch_norm import FrozenBatchNorm2d, scale_and_shift
from .norm import NormCfg, build_norm_layer


def build_branch(
    in_channels: int, out_channels: int, *, conv_cfg: ConvCfg | None, norm_cfg: NormCfg, **shape: Any
) -> nn.Sequential:
    """A convolution without bias, and its norm."""
    with located("conv_cfg"):
        conv = build_conv_layer(conv_cfg, in_channels, out_channels, bias=False, **shape)
    with located("norm_cfg"):
        name, norm = build_norm_layer(norm_cfg, out_channels, postfix=1)
    return Chain(OrderedDict({"conv": conv, name: norm}))


def sum_of_branches(branches: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The sum of what the branches make of `x`."""
    first, *others = branches
    out: Tensor = first(x)
    for branch in others:
        out += branch(x)
    return out


def merged_branches(branches: Iterable[nn.Module]) -> nn.Conv2d:
    """One convolution that computes what the branches do in eval mode.

    Args:
        branches: One of them at least has a convolution. They have one stride, dilation and number of groups, and
            the largest kernel has room for the others around its centre.

    Raises:
        ConfigError: A convolution is no plain one, or a norm no BatchNorm with running statistics.
    """
    parts = [_parts(branch) for branch in branches]
    like = max((conv for conv, _ in parts if conv is not None), key=lambda conv: conv.weight[0, 0].numel())
    with torch.no_grad():
        scales, shifts = zip(*(scale_and_shift(norm) for _, norm in parts))
        kernels = [_kernel(conv, like) * scale.view(-1, 1, 1, 1) for (conv, _), scale in zip(parts, scales)]
    merged = nn.Conv2d(
        like.in_channels,
        like.out_channels,
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        like.groups,
        padding_mode=like.padding_mode,
        device="meta",
    )
    trains = like.weight.requires_grad
    for name, tensors in (("weight", kernels), ("bias", shifts)):
        setattr(merged, name, nn.Parameter(sum(tensors).to(like.weight.dtype), trains))
    return merged.train(like.training)


def _parts(branch: nn.Module) -> tuple[nn.Conv2d | None, Any]:
    """The convolution of a branch, None where there is none, and its norm."""
    conv, norm = branch.children() if isinstance(branch, nn.Sequential) else (None, branch)
    if conv is not None and type(conv) is not nn.Conv2d:
        raise ConfigError(f"a {type(conv).__name__} cannot be merged, only a Conv2d can", ("conv_cfg",))
    if not isinstance(norm, (_BatchNorm, FrozenBatchNorm2d)) or norm.running_mean is None:
        raise ConfigError(
            f"a {type(norm).__name__} cannot be merged into a convolution: it depends on the map; use BN", ("norm_cfg",)
        )
    return conv, norm


def _kernel(conv: nn.Conv2d | None, like: nn.Conv2d) -> Tensor:
    """A branch's kernel, padded to the size of that of `like`; without a convolution, the identity."""
    if conv is None:
        return nn.init.dirac_(torch.zeros_like(like.weight), like.groups)
    height, width = ((a - b) // 2 for a, b in zip(like.kernel_size, conv.kernel_size))
    return F.pad(conv.weight, (width, width, height, height))
