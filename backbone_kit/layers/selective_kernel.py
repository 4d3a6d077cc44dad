"""Selective kernels: convolutions of several sizes, and for every channel a choice among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError, located
from .activation import ActivationCfg, build_activation_layer
from .channels import reduced_channels
from .conv import ConvCfg
from .conv_module import RELU, ConvModule
from .norm import NormCfg, build_norm_layer
from .plugin import PLUGIN_LAYERS

BN: NormCfg = {"type": "BN"}


@PLUGIN_LAYERS.register_module(("SelectiveKernel", "sk"))
class SelectiveKernel(nn.Module):
    """The sum of several paths, weighed per channel by a softmax over the paths; arguments and keys as timm's.

    A path is a convolution, a norm and an activation. In place of a 3x3 convolution with its norm and activation, or,
    with the channels that it gets, a plugin.

    Args:
        in_channels: Channels C of the map.
        out_channels: Channels K of the output; None: C.
        kernel_size: Sides of the paths' kernels, odd, 3 or more.
        stride: Stride of every path.
        dilation: Dilation of a 3x3 kernel.
        groups: Groups of each convolution, at most K.
        rd_ratio: Channels inside of the attention over K, before they are rounded.
        rd_channels: Those channels; None: K · rd_ratio, rounded to a multiple of `rd_divisor`.
        rd_divisor: What they are a multiple of.
        keep_3x3: Whether a larger kernel is a 3x3 with the dilation that gives it that size.
        split_input: Whether each path sees its own part of the C channels, rather than all of them.
        conv_cfg: Type of the paths' convolutions, None for Conv2d.
        norm_cfg: Type of the norms. A BatchNorm in the attention cannot train on a single picture.
        act_cfg: Type of the activations.

    Raises:
        ConfigError: A kernel size is even or less than 3, the paths cannot share C equally, or a number is not
            positive.

    Shape:
        - Input: (N, C, H, W)
        - Output: (N, K, H / stride, W / stride), rounded up

    Source: Li et al., Selective Kernel Networks, arXiv 1903.06586, section 3.1; the split of the input and the kept
    3x3 are timm's.
    """

    _abbr_ = "sk"

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: Sequence[int] = (3, 5),
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 8,
        keep_3x3: bool = True,
        split_input: bool = True,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg = BN,
        act_cfg: ActivationCfg = RELU,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        if not kernel_size:
            raise ConfigError("must have one size a path, such as (3, 5)", ("kernel_size",))
        for index, size in enumerate(kernel_size):
            if size < 3 or size % 2 == 0:
                raise ConfigError(f"must be odd, and 3 or more, got {size}", ("kernel_size", index))
        shares = len(kernel_size) if split_input else 1
        if in_channels % shares:
            reason = f"needs in_channels (={in_channels}) to be a multiple of the number of paths (={shares})"
            raise ConfigError(f"{reason}; set it to False", ("split_input",))
        self.split_input = split_input

        def path(size: int) -> ConvModule:
            apart = dilation * (size - 1) // 2 if keep_3x3 else dilation
            size = 3 if keep_3x3 else size
            return ConvModule(
                in_channels // shares,
                out_channels,
                size,
                stride=stride,
                padding=apart * (size // 2),
                dilation=apart,
                groups=min(groups, out_channels),
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )

        self.paths = nn.ModuleList(path(size) for size in kernel_size)
        hidden = reduced_channels(out_channels, rd_ratio, rd_channels, rd_divisor)
        self.attn = SelectiveKernelAttention(out_channels, len(kernel_size), hidden, norm_cfg, act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K, H / stride, W / stride)."""
        inputs = x.chunk(len(self.paths), 1) if self.split_input else [x] * len(self.paths)
        maps = [path(part) for path, part in zip(self.paths, inputs)]
        weights = self.attn(_sum(maps))
        return _sum([y * weight for y, weight in zip(maps, weights)])


class SelectiveKernelAttention(nn.Module):
    """Weights of paths from the sum of their maps: softmax over the paths of W2 · act(norm(W1 · mean(x))).

    Args:
        channels: Channels K of a path's map.
        num_paths: How many paths there are.
        hidden: Channels between W1 and W2.
        norm_cfg, act_cfg: Types of norm and activation.
    """

    def __init__(self, channels: int, num_paths: int, hidden: int, norm_cfg: NormCfg, act_cfg: ActivationCfg) -> None:
        super().__init__()
        self.num_paths = num_paths
        self.fc_reduce = nn.Conv2d(channels, hidden, kernel_size=1, bias=False)
        with located("norm_cfg"):
            self.norm_name, norm = build_norm_layer(norm_cfg, hidden)
        self.add_module(self.norm_name, norm)
        with located("act_cfg"):
            self.act = build_activation_layer(act_cfg)
        self.fc_select = nn.Conv2d(hidden, channels * num_paths, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps the sum of all paths, (N, K, H, W), to a weight for each of them, (N, K, 1, 1)."""
        y = getattr(self, self.norm_name)(self.fc_reduce(x.mean((2, 3), keepdim=True)))
        energies = torch.unflatten(self.fc_select(self.act(y)), 1, (self.num_paths, -1))
        return energies.softmax(1).unbind(1)


def _sum(maps: Sequence[Tensor]) -> Tensor:
    return sum(maps[1:], maps[0])
