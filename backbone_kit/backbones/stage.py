"""Stages: numbers first (`StageSpec`), then a sequence of blocks (`build_stage`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import located
from ..layers import build_norm_layer
from ..layers.average_pool import CeilAvgPool2d, SameAvgPool2d
from ..layers.conv_norm import Chain
from .convs import build_conv
from .residual import PluginEntry, ResidualBlock
from .types import ConvCfg, DeformableCfg, NormCfg


@dataclass(frozen=True)
class StageSpec:
    """What a stage is, before anything is built.

    Attributes:
        block: Class of its blocks, a `ResidualBlock` with the arguments of `Bottleneck`.
        planes: Width of its blocks.
        stride: Stride of its first block.
        dilations: Dilation of each block; as many as there are blocks.
        drop_paths: Drop-path probability of each block.
        dcn: Type of the deformable convolutions, None for none.
        plugins: What its blocks carry; None in the place of what only other stages carry.
        block_args: What else its blocks are built with: a width, groups, …
        first_block_args: What else its first block is built with.
        in_place_of_stride: Dilation that took the place of a stride that is not there; 1: none did.
    """

    block: Any
    planes: int
    stride: int
    dilations: tuple[int, ...]
    drop_paths: tuple[float, ...]
    dcn: DeformableCfg | None = None
    plugins: tuple[PluginEntry | None, ...] = ()
    block_args: Mapping[str, Any] = field(default_factory=dict)
    first_block_args: Mapping[str, Any] = field(default_factory=dict)
    in_place_of_stride: int = 1

    @property
    def channels(self) -> int:
        """Channels of its output."""
        return self.planes * int(self.block.expansion)


def build_stage(
    spec: StageSpec,
    inplanes: int,
    downsample: Callable[..., nn.Module],
    anti_alias: Callable[[int, int], nn.Module] | None = None,
    **shared: Any,
) -> nn.Sequential:
    """The blocks of a stage; the first one changes stride and channels.

    Args:
        spec: The stage.
        inplanes: Channels of its input.
        downsample: Builds the first block's shortcut from (in_channels, out_channels, stride), the `dilation` in place
            of a stride, and the `first_dilation` of that block.
        anti_alias: Builds what has the stride of a block's 3x3, from (channels, stride); None: that 3x3.
        **shared: What the blocks of all stages are built with.
    """
    blocks: list[ResidualBlock] = []
    instead = spec.in_place_of_stride
    for dilation, drop_path in zip(spec.dilations, spec.drop_paths, strict=True):
        stride = 1 if blocks else spec.stride
        shortcut = None
        if stride != 1 or inplanes != spec.channels:
            shortcut = downsample(inplanes, spec.channels, stride, dilation=instead, first_dilation=dilation)
        options = {**shared, **spec.block_args, **({} if blocks else spec.first_block_args)}
        if anti_alias is not None and (stride != 1 or (instead > 1 and dilation != instead)):
            options["anti_alias"] = anti_alias
        blocks.append(
            spec.block(
                inplanes,
                spec.planes,
                stride=stride,
                dilation=dilation,
                downsample=shortcut,
                dcn=spec.dcn,
                plugins=spec.plugins,
                drop_path=drop_path,
                **options,
            )
        )
        inplanes = spec.channels
    return nn.Sequential(*blocks)


def build_downsample(
    in_channels: int,
    out_channels: int,
    stride: int,
    *,
    dilation: int = 1,
    first_dilation: int = 1,
    avg_down: bool,
    kernel_size: int = 1,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
) -> nn.Sequential:
    """A shortcut that changes the shape: a convolution and a norm; with `avg_down`, an average pool has the stride.

    Args:
        in_channels, out_channels: Of the shortcut.
        stride: Of the shortcut.
        dilation: Dilation that took the place of the stage's stride; 1: none did.
        first_dilation: Dilation of the stage's first block, which a larger kernel has too.
        avg_down: Whether there is a pool. At stride 1 it holds its place in the keys, and, where dilation took the
            stride's place, averages.
        kernel_size: Side of the convolution, where the stage has a stride or a dilation in its place; with `avg_down`
            always 1.
        conv_cfg, norm_cfg: Types of the layers.

    Source: arXiv 1812.01187, section 4.2, ResNet-D. Kernels of 3 are SENet-154's: Hu et al., "Squeeze-and-Excitation
    Networks", arXiv 1709.01507, section 6.1.
    """
    if avg_down:
        pool = [SameAvgPool2d() if dilation > 1 and stride == 1 else CeilAvgPool2d(stride)]
        conv = build_conv(conv_cfg, in_channels, out_channels, 1)
    else:
        pool, side = [], kernel_size if stride != 1 or dilation > 1 else 1
        spacing = first_dilation if side > 1 else 1
        padding = (stride - 1 + spacing * (side - 1)) // 2
        conv = build_conv(conv_cfg, in_channels, out_channels, side, stride=stride, padding=padding, dilation=spacing)
    with located("norm_cfg"):
        return Chain(*pool, conv, build_norm_layer(norm_cfg, out_channels)[1])
