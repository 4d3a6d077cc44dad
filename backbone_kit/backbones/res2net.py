"""Res2Net and Res2NeXt: a bottleneck's 3x3 as a chain of narrower ones, each seeing what the one before saw.

Source: Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", arXiv 1904.01169, section 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, located
from ..layers import build_norm_layer
from ..layers.conv_norm import conv_norm
from .base import BACKBONES
from .blocks import Bottleneck
from .convs import build_conv, build_spatial_conv
from .ranges import check_range
from .residual import BN, ResidualBlock
from .resnet import ResNet


class Bottle2neck(ResidualBlock):
    """x + f(x), f = 1x1, a chain of 3x3s over slices of the channels, 1x1.

    Slice i goes through its 3x3 after the result of slice i-1 was added to it; the last slice has none. In the first
    block of a stage nothing is added, and an average pool has the last slice's stride.

    Args:
        inplanes: Channels of the input.
        planes: The output has four times as many channels.
        stride: Stride of the 3x3s, or, with style 'caffe', of the first 1x1.
        dilation: Dilation of the 3x3s.
        downsample: The shortcut, where the shape changes.
        width: Channels of a slice.
        scales: Number of slices.
        groups: Groups of the 3x3s.
        first: Whether this is the first block of its stage.
        pool_unstrided: Whether the last slice of a first block is averaged at stride 1 too.
        style, with_cp, conv_cfg, norm_cfg, dcn, plugins, act_cfg, drop_path: As `Bottleneck` has them.
    """

    expansion = Bottleneck.expansion
    positions = ("after_norm1", "after_conv1", "after_conv2", "after_conv3")
    inner = "after_conv2"

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        *,
        width: int,
        scales: int,
        groups: int = 1,
        first: bool = False,
        pool_unstrided: bool = False,
        style: Any = "pytorch",
        with_cp: bool = False,
        conv_cfg: Any = None,
        norm_cfg: Any = None,
        dcn: Any = None,
        plugins: Any = None,
        act_cfg: Any = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(style=style, with_cp=with_cp, drop_path=drop_path, init_cfg=None)
        norm_cfg = BN if norm_cfg is None else norm_cfg
        self.width, self.first = width, first
        total, outplanes = width * scales, planes * self.expansion
        at_1x1, at_3x3 = (stride, 1) if style == "caffe" else (1, stride)
        self.add_conv_norm(build_conv(conv_cfg, inplanes, total, 1, stride=at_1x1), norm_cfg, total)
        self.add_conv_norm(build_conv(conv_cfg, total, outplanes, 1), norm_cfg, outplanes, index=3)
        self.add_tail(downsample, act_cfg)
        self.add_plugins(plugins, dict(zip(self.positions, (total, total, total, outplanes))))
        self.last = nn.AvgPool2d(3, at_3x3, padding=1) if first and (at_3x3 > 1 or pool_unstrided) else nn.Identity()
        inside = {"stride": at_3x3, "padding": dilation, "dilation": dilation, "groups": groups}
        convs = [build_spatial_conv(conv_cfg, dcn, width, width, **inside) for _ in range(scales - 1)]
        self.convs = nn.ModuleList(convs)
        with located("norm_cfg"):
            self.bns = nn.ModuleList(build_norm_layer(norm_cfg, width)[1] for _ in convs)

    def before_last(self, x: Tensor) -> Tensor:
        """f(x) up to its last convolution."""
        *slices, last = torch.split(self.layer(1, x), self.width, dim=1)
        done: list[Tensor] = []
        for part, conv, norm in zip(slices, self.convs, self.bns, strict=True):
            if done and not self.first:
                part = part + done[-1]
            done.append(conv_norm(conv, norm, part, self.relu))
        return self.plugged("after_conv2", torch.cat([*done, self.last(last)], dim=1))


@BACKBONES.register_module()
class Res2Net(ResNet):
    """Res2Net-50, 101 and 152, by default with ResNet-D's stem and shortcuts; further arguments as `ResNet`.

    Args:
        depth: Number of layers, one of `arch_settings`.
        scales: Slices of a block's channels.
        base_width: Width of a slice, or of each of its groups, in the first stage; it doubles with every stage.
        cardinality: Groups of the 3x3s; more than 1 is a Res2NeXt.
        deep_stem: Three 3x3 convolutions in place of the stem's 7x7.
        avg_down: An average pool in place of the shortcut's stride.
        pool_unstrided: Whether the first block of the first stage averages its last slice, as the authors' and timm's
            nets do, and MMDetection's do not.

    Raises:
        ConfigError: `scales` is less than 2.
    """

    arch_settings: ClassVar[Any] = {
        depth: (Bottle2neck, n) for depth, (block, n) in ResNet.arch_settings.items() if block is Bottleneck
    }
    first_block_args: ClassVar[Any] = {"first": True}
    settled = ("block", "block_reduce_first", "aa_layer")

    def __init__(
        self,
        depth: int,
        scales: int = 4,
        base_width: int = 26,
        cardinality: int = 1,
        deep_stem: bool = True,
        avg_down: bool = True,
        pool_unstrided: bool = False,
        **kwargs: Any,
    ) -> None:
        if scales < 2:
            raise ConfigError(f"must be 2 or more, got {scales}; a ResNet has one", ("scales",))
        check_range("base_width", base_width)
        self.scales, self.pool_unstrided = scales, pool_unstrided
        options: dict[str, Any] = {"base_width": base_width, "cardinality": cardinality}
        super().__init__(depth, deep_stem=deep_stem, avg_down=avg_down, **options, **kwargs)

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """Width of a slice and number of slices."""
        more = {"scales": self.scales, "pool_unstrided": self.pool_unstrided}
        return {**super().block_args(planes, base_channels), **more}
