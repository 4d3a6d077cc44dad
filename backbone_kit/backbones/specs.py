"""Arguments for a whole residual net as numbers for each of its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError
from ..layers import PluginCfg
from .blocks import BasicBlock
from .ranges import check_range, check_rate, per_stage
from .residual import PluginEntry, ResidualBlock
from .stage import StageSpec
from .types import DeformableCfg

_AS_TIMM = {"type": "DropBlock", "warmup_iters": 0, "couple_channels": True, "whole_blocks": False}
DROP_BLOCKS = {
    2: {**_AS_TIMM, "block_size": 5, "gamma_scale": 0.25},
    3: {**_AS_TIMM, "block_size": 3, "gamma_scale": 1.0},
}
"""By stage: the regions that `drop_block_rate` drops, as timm drops them."""


def stage_specs(
    kinds: Sequence[type[ResidualBlock]],
    depths: Sequence[int],
    planes: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    output_stride: int | None = None,
    contract_dilation: bool | None = None,
    multi_grid: Sequence[int] | None = None,
    drop_path_rate: float = 0.0,
    drop_block_rate: float = 0.0,
    dcn: DeformableCfg | None = None,
    stage_with_dcn: Sequence[bool] | None = None,
    plugins: Sequence[PluginEntry] | None = None,
    attn_layer: PluginCfg | None = None,
    block_args: Callable[[int], dict[str, Any]] = lambda planes: {},
    first_block_args: Mapping[str, Any] = MappingProxyType({}),
) -> list[StageSpec]:
    """The stages that these arguments of `ResNet` mean.

    Args:
        kinds: Class of each stage's blocks.
        depths: Blocks of each stage.
        planes: Width of each stage.
        strides, dilations, output_stride, contract_dilation, multi_grid, drop_path_rate, drop_block_rate, dcn,
            stage_with_dcn, plugins, attn_layer: As `ResNet` has them.
        block_args: From a stage's planes to what else its blocks are built with.
        first_block_args: What else the first block of each stage is built with.

    Raises:
        ConfigError: One is out of range, of the wrong length, or contradicts another.
    """
    num_stages = len(depths)
    if output_stride is not None:
        if strides is not None or dilations is not None:
            raise ConfigError("sets strides and dilations; remove those, or this", ("output_stride",))
        if output_stride > 2 ** (num_stages + 1):
            raise ConfigError(
                f"cannot be {output_stride}: {num_stages} stages reach {2 ** (num_stages + 1)}", ("output_stride",)
            )
        strides, dilations = _dilated(output_stride, num_stages)
        contract_dilation = True if contract_dilation is None else contract_dilation
    strides = per_stage("strides", strides, num_stages, ((1,) + (2,) * num_stages)[:num_stages])
    dilations = per_stage("dilations", dilations, num_stages, (1,) * num_stages)
    for name, values in (("strides", strides), ("dilations", dilations), ("multi_grid", multi_grid or ())):
        for index, value in enumerate(values):
            check_range(name, value, path=(index,))
    deformable = per_stage("stage_with_dcn", stage_with_dcn, num_stages, (False,) * num_stages)
    if dcn is not None and stage_with_dcn is None:
        example = (False,) + (True,) * (num_stages - 1)
        raise ConfigError(f"needs stage_with_dcn to say in which stages, such as {example}", ("dcn",))
    if dcn is None and any(deformable):
        raise ConfigError("needs dcn to say which convolution, such as dcn=dict(type='DCNv2')", ("stage_with_dcn",))
    if multi_grid is not None and len(multi_grid) != depths[-1]:
        wanted = f"{depths[-1]} dilations, one a block of the last stage"
        raise ConfigError(f"needs {wanted}, got {tuple(multi_grid)}", ("multi_grid",))
    for name, rate in (("drop_path_rate", drop_path_rate), ("drop_block_rate", drop_block_rate)):
        check_rate(name, rate)
    masks = [
        per_stage("stages", entry.get("stages"), num_stages, (True,) * num_stages, ("plugins", index))
        for index, entry in enumerate(plugins or ())
    ]
    total, before = sum(depths), 0
    specs = []
    for index, (kind, blocks, dilation) in enumerate(zip(kinds, depths, dilations)):
        kind.check_positions(plugins)
        first = dilation // 2 if contract_dilation and dilation > 1 else dilation
        by_block = (first,) + (dilation,) * (blocks - 1)
        if multi_grid is not None and index == num_stages - 1:
            by_block = tuple(multi_grid)
        carried: list[PluginEntry | None] = [e if mask[index] else None for e, mask in zip(plugins or (), masks)]
        if attn_layer is not None:
            carried.append({"cfg": attn_layer, "position": kind.positions[-1]})
        if drop_block_rate and index in DROP_BLOCKS:
            cfg = {**DROP_BLOCKS[index], "drop_prob": drop_block_rate}
            carried.append({"cfg": cfg, "position": kind.inner})
        more = block_args(planes[index])
        instead = dilation if output_stride is not None else 1
        if instead > 1 and issubclass(kind, BasicBlock):
            more["second_dilation"] = instead
        specs.append(
            StageSpec(
                kind,
                planes[index],
                strides[index],
                by_block,
                drop_paths=tuple(drop_path_rate * i / max(total - 1, 1) for i in range(before, before + blocks)),
                dcn=dcn if deformable[index] else None,
                plugins=tuple(carried),
                block_args=more,
                first_block_args=first_block_args,
                in_place_of_stride=instead,
            )
        )
        before += blocks
    return specs


def _dilated(output_stride: int, num_stages: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations that end at `output_stride`: what a stride would have exceeded becomes dilation."""
    strides: list[int] = []
    dilations: list[int] = []
    reached, dilation = 4, 1
    for stride in ((1,) + (2,) * num_stages)[:num_stages]:
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        strides.append(stride)
        dilations.append(dilation)
    return tuple(strides), tuple(dilations)
