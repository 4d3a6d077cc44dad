"""What has a stride in place of a convolution, so that nothing is skipped."""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..layers.blur_pool import BlurPool2d

AntiAlias = Literal["avg", "blur"]


def anti_alias(kind: AntiAlias, channels: int, stride: int) -> nn.Module:
    """A pool of that stride: means over windows of `stride` x `stride`, or a blur.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486, section 3.
    """
    return nn.AvgPool2d(stride) if kind == "avg" else BlurPool2d(channels, stride)
