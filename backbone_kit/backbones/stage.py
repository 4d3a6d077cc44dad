"""Stages: numbers first (`StageSpec`), then a sequence of blocks (`build_stage`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..errors import located
from ..layers import build_norm_layer
from ..layers.average_pool import CeilAvgPool2d
from .convs import build_conv
from .residual import PluginEntry, ResidualBlock
from .types import ConvCfg, DeformableCfg, NormCfg


@dataclass(frozen=True)
class StageSpec:
    """What a stage is, before anything is built.

    Attributes:
        planes: Width of its blocks.
        stride: Stride of its first block.
        dilations: Dilation of each block; as many as there are blocks.
        drop_paths: Drop-path probability of each block.
        dcn: Type of the deformable convolutions, None for none.
        plugins: What its blocks carry; None in the place of what only other stages carry.
        block_args: What else its blocks are built with: a width, groups, …
    """

    planes: int
    stride: int
    dilations: tuple[int, ...]
    drop_paths: tuple[float, ...]
    dcn: DeformableCfg | None = None
    plugins: tuple[PluginEntry | None, ...] = ()
    block_args: Mapping[str, Any] = field(default_factory=dict)


def build_stage(
    block: Callable[..., ResidualBlock],
    spec: StageSpec,
    inplanes: int,
    outplanes: int,
    downsample: Callable[[int, int, int], nn.Module],
) -> nn.Sequential:
    """The blocks of a stage; the first one changes stride and channels.

    Args:
        block: Builds a block, with all that the blocks of the net share bound to it.
        spec: The stage.
        inplanes: Channels of its input.
        outplanes: Channels of its output.
        downsample: Builds the first block's shortcut from (in_channels, out_channels, stride).
    """
    blocks: list[ResidualBlock] = []
    for dilation, drop_path in zip(spec.dilations, spec.drop_paths, strict=True):
        stride = 1 if blocks else spec.stride
        shortcut = downsample(inplanes, outplanes, stride) if stride != 1 or inplanes != outplanes else None
        blocks.append(
            block(
                inplanes,
                spec.planes,
                stride=stride,
                dilation=dilation,
                downsample=shortcut,
                dcn=spec.dcn,
                plugins=spec.plugins,
                drop_path=drop_path,
                **spec.block_args,
            )
        )
        inplanes = outplanes
    return nn.Sequential(*blocks)


def build_downsample(
    in_channels: int,
    out_channels: int,
    stride: int,
    *,
    avg_down: bool,
    conv_cfg: ConvCfg | None,
    norm_cfg: NormCfg,
) -> nn.Sequential:
    """A shortcut that changes the shape: a 1x1 convolution and a norm; with `avg_down`, an average pool has the stride.

    Source: arXiv 1812.01187, section 4.2, ResNet-D. The pool is there at stride 1 as well: it holds its place in the
    keys.
    """
    pool = [CeilAvgPool2d(stride)] if avg_down else []
    conv = build_conv(conv_cfg, in_channels, out_channels, 1, stride=1 if avg_down else stride)
    with located("norm_cfg"):
        return nn.Sequential(*pool, conv, build_norm_layer(norm_cfg, out_channels)[1])
