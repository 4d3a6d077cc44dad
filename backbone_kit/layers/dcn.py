"""Convolutions that learn where to look: `DCN` and `DCNv2`, with MMDetection's names and checkpoint layout."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .conv import CONV_LAYERS
from .deform_conv import deform_conv2d


class _DeformConv(nn.Conv2d):
    """A convolution beside which a second one, `conv_offset`, says where every tap reads; abstract.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As for `torch.nn.Conv2d`, which
            gives the shape of the output, too, and its error for a padded map that is smaller than the kernel.
        deform_groups: How many groups of input channels move on their own; None means 1.
        deformable_groups: The same by its old name, with a DeprecationWarning.

    Raises:
        ConfigError: `deform_groups` does not divide `in_channels`, or has both names.
    """

    brings_new: ClassVar[tuple[str, ...]] = ("conv_offset",)  # to weights of a plain convolution
    values_per_tap: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        deform_groups: int | None = None,
        deformable_groups: int | None = None,
    ) -> None:
        moving_groups = _one_name(deform_groups, deformable_groups)
        if moving_groups < 1 or in_channels % moving_groups:
            raise ConfigError(f"must divide `in_channels` (={in_channels}), got {moving_groups}", ("deform_groups",))
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.deform_groups = moving_groups
        self.taps = self.kernel_size[0] * self.kernel_size[1]
        self.conv_offset = nn.Conv2d(
            in_channels, self.values_per_tap * moving_groups * self.taps, kernel_size, stride, padding, dilation
        )
        self._rest()

    def init_weights(self) -> None:
        """Draws the kernel anew and puts every tap back on the regular grid."""
        self.reset_parameters()
        self._rest()

    def _rest(self) -> None:
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        padding = cast("tuple[int, ...]", self.padding)
        return deform_conv2d(x, offset, self.weight, self.bias, self.stride, padding, self.dilation, mask)


@CONV_LAYERS.register_module()
class DCN(_DeformConv):
    """Deformable convolution: every tap is moved.

    Args:
        bias: Only False.
        *args, **kwargs: in_channels, out_channels, kernel_size, stride, padding, dilation, groups as for
            `torch.nn.Conv2d`, and deform_groups: how many groups of input channels move on their own, by default 1
            (by its old name, deformable_groups, with a DeprecationWarning).

    Raises:
        ConfigError: `bias` is True, `deform_groups` does not divide `in_channels`, or has both names.

    Source: Dai et al., Deformable Convolutional Networks, arXiv 1703.06211, section 2.1.

    Examples:
        >>> import torch
        >>> DCN(8, 16, kernel_size=3, stride=2, padding=1)(torch.randn(2, 8, 9, 7)).shape
        torch.Size([2, 16, 5, 4])
    """

    values_per_tap = 2  # dy, dx

    def __init__(self, *args: Any, bias: bool = False, **kwargs: Any) -> None:
        if bias:
            raise ConfigError("must be False, a DCN has none; DCNv2 can have one", ("bias",))
        super().__init__(*args, bias=False, **kwargs)

    def reset_parameters(self) -> None:
        """Draws the kernel anew: Kaiming uniform, fan in."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to what `torch.nn.Conv2d` of this size would."""
        return self._convolve(x, self.conv_offset(x), None)


@CONV_LAYERS.register_module()
class DCNv2(_DeformConv):
    """Modulated deformable convolution: every tap is moved, and weighed by 0 to 1; by one half to begin with.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As for `torch.nn.Conv2d`.
        deform_groups: How many groups of input channels move on their own; None means 1.
        deformable_groups: The same by its old name, with a DeprecationWarning.

    Raises:
        ConfigError: `deform_groups` does not divide `in_channels`, or has both names.

    Source: Zhu et al., Deformable ConvNets v2, arXiv 1811.11168, section 3.2.
    """

    values_per_tap = 3  # dy, dx; the masks follow after all of them

    def reset_parameters(self) -> None:
        """Draws the kernel anew: uniform within 1/sqrt(in_channels · taps)."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to what `torch.nn.Conv2d` of this size would."""
        moving = self.deform_groups * self.taps
        offset, logits = self.conv_offset(x).split((2 * moving, moving), dim=1)
        return self._convolve(x, offset, torch.sigmoid(logits))


def _one_name(deform_groups: int | None, deformable_groups: int | None) -> int:
    if deformable_groups is None:
        return 1 if deform_groups is None else deform_groups
    if deform_groups is not None:
        raise ConfigError(f"is the old name of `deform_groups` (={deform_groups}); remove it", ("deformable_groups",))
    warnings.warn("`deformable_groups` is called `deform_groups` now", DeprecationWarning, stacklevel=4)
    return deformable_groups
