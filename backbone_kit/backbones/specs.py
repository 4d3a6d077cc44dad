"""Arguments for a whole residual net as numbers for each of its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError
from .residual import PluginEntry
from .stage import StageSpec
from .types import DeformableCfg

T = TypeVar("T")


def stage_specs(
    depths: tuple[int, ...],
    *,
    base_channels: int,
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    output_stride: int | None,
    contract_dilation: bool | None,
    multi_grid: Sequence[int] | None,
    drop_path_rate: float,
    dcn: DeformableCfg | None,
    stage_with_dcn: Sequence[bool] | None,
    plugins: Sequence[PluginEntry] | None,
    block_args: Callable[[int, int], dict[str, Any]],
) -> list[StageSpec]:
    """The stages that these arguments of `ResNet` mean.

    Args:
        depths: Blocks of each stage.
        base_channels, strides, dilations, output_stride, contract_dilation, multi_grid, drop_path_rate, dcn,
            stage_with_dcn, plugins: As `ResNet` has them.
        block_args: From a stage's planes and `base_channels` to what else its blocks are built with.

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
    strides = _per_stage("strides", strides, (1, 2, 2, 2)[:num_stages])
    dilations = _per_stage("dilations", dilations, (1,) * num_stages)
    for name, values in (("strides", strides), ("dilations", dilations), ("multi_grid", multi_grid or ())):
        for index, value in enumerate(values):
            check_range(name, value, path=(index,))
    if not 0 <= drop_path_rate < 1:
        raise ConfigError(f"must be from 0 to less than 1, got {drop_path_rate}", ("drop_path_rate",))
    deformable = _per_stage("stage_with_dcn", stage_with_dcn, (False,) * num_stages)
    if dcn is not None and stage_with_dcn is None:
        example = (False,) + (True,) * (num_stages - 1)
        raise ConfigError(f"needs stage_with_dcn to say in which stages, such as {example}", ("dcn",))
    if dcn is None and any(deformable):
        raise ConfigError("needs dcn to say which convolution, such as dcn=dict(type='DCNv2')", ("stage_with_dcn",))
    if multi_grid is not None and len(multi_grid) != depths[-1]:
        wanted = f"{depths[-1]} dilations, one a block of the last stage"
        raise ConfigError(f"needs {wanted}, got {tuple(multi_grid)}", ("multi_grid",))
    masks = [
        _per_stage("stages", entry.get("stages"), (True,) * num_stages, ("plugins", index))
        for index, entry in enumerate(plugins or ())
    ]
    total, before = sum(depths), 0
    specs = []
    for index, (blocks, dilation) in enumerate(zip(depths, dilations)):
        first = dilation // 2 if contract_dilation and dilation > 1 else dilation
        by_block = (first,) + (dilation,) * (blocks - 1)
        if multi_grid is not None and index == num_stages - 1:
            by_block = tuple(multi_grid)
        specs.append(
            StageSpec(
                planes=base_channels * 2**index,
                stride=strides[index],
                dilations=by_block,
                drop_paths=tuple(drop_path_rate * i / max(total - 1, 1) for i in range(before, before + blocks)),
                dcn=dcn if deformable[index] else None,
                plugins=tuple(entry if mask[index] else None for entry, mask in zip(plugins or (), masks)),
                block_args=block_args(base_channels * 2**index, base_channels),
            )
        )
        before += blocks
    return specs


def check_range(name: str, value: int, least: int = 1, path: tuple[int, ...] = ()) -> None:
    """Refuses an argument that is less than `least`; `path` leads to the value inside of it."""
    if value < least:
        raise ConfigError(f"must be {least} or more, got {value}", (name, *path))


def _dilated(output_stride: int, num_stages: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations that end at `output_stride`: what a stride would have exceeded becomes dilation."""
    strides: list[int] = []
    dilations: list[int] = []
    reached, dilation = 4, 1
    for stride in (1, 2, 2, 2)[:num_stages]:
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        strides.append(stride)
        dilations.append(dilation)
    return tuple(strides), tuple(dilations)


def _per_stage(
    name: str, values: Sequence[T] | None, default: tuple[T, ...], path: tuple[str | int, ...] = ()
) -> tuple[T, ...]:
    """One value a stage; `default`, which has the right length, where None is given."""
    if values is None:
        return default
    if len(values) != len(default):
        raise ConfigError(f"needs {len(default)} values, one a stage, got {tuple(values)}", (*path, name))
    return tuple(values)
