"""A backbone written to a file."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from ..backbones.base import Backbone
from ..checkpoint.preprocessing import Preprocessing
from ..errors import ConfigError, did_you_mean
from ..optimize.prepare import merge_layers
from ..signature import check_arguments, check_value
from .files import appearing, check_place
from .formats import FORMATS, INPUT, Task, explained, need, quiet
from .normalize import Normalize

Kind = Literal["onnx", "openvino", "export", "aoti"]
Extent = Literal["batch", "size"]


@dataclass(frozen=True)
class Port:
    """An input or an output of a file.

    Attributes:
        name: 'images', or a map's: its level and its stride, as in 'layer2_stride8'.
        dtype: Of its values.
        shape: Sizes; 'N', 'H', 'W' or 'H/8' where any will do, '3N' where three branches give a map each.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Exported:
    """A backbone's file.

    Attributes:
        path: The file.
        files: It, and what it needs beside it.
        format: A key of `FORMATS`.
        images: What it takes.
        maps: What it gives, in the order of the backbone's `out_indices`.
        smallest: The least H and W that the file is for; None where these are fixed.
        reference: What was exported, as it was before anything was merged, in eval mode.
        example: The batch of pictures that it was traced with.
    """

    path: Path
    files: tuple[Path, ...]
    format: Kind
    images: Port
    maps: tuple[Port, ...]
    smallest: int | None
    reference: nn.Module
    example: Tensor


def export_backbone(
    backbone: Backbone,
    path: str | os.PathLike[str],
    format: Kind,
    *,
    size: Sequence[int] = (224, 224),
    batch: int | None = None,
    fixed: Collection[Extent] = (),
    smallest: int | None = None,
    preprocessing: Preprocessing | None = None,
    opset: int | None = None,
) -> Exported:
    """Writes a backbone to a file for another runtime.

    The file computes what the backbone computes in eval mode, in the dtype of its weights. Branches that are one
    convolution are merged, norms are folded into the convolutions before them, and what no level in `out_indices` needs
    is left out. The file appears under its name when it is whole.

    Args:
        backbone: Left as it is.
        path: The new file; one that is there is replaced. OpenVINO has a `.bin` beside the `.xml`, and ONNX a `.data`
            beside the `.onnx` where the weights are larger than 2 GB.
        format: 'onnx'; 'openvino', its IR; 'export', a program for `torch.export.load`; or 'aoti', compiled by
            AOTInductor for the device of the weights and for processors like this one, for
            `torch._inductor.aoti_load_package`.
        size: (H, W) in pixels of the pictures that the backbone is traced with.
        batch: How many of them there are; None: 1 where the batch is fixed, else 2, the least that torch does not take
            for a constant, and the least that is allowed.
        fixed: What the file takes only as it was traced: 'batch', 'size', or both. Otherwise it takes any N, and any H
            and W from `smallest` on.
        smallest: In pixels, more than the largest stride; None: twice that stride, because torch takes a map of one
            pixel for a constant. Where all layers round up, less does.
        preprocessing: How pictures were prepared for the weights; the file then does that itself, and takes pixels as
            uint8, from 0 to 255, in RGB. None: it takes what the backbone takes.
        opset: The version of ONNX's operators; None: the exporter's own.

    Raises:
        ConfigError: An argument is out of range, contradicts another, or does not fit the format or the backbone.
        ModuleNotFoundError: What writes the format is not installed.
        OSError: The folder of `path` is not there, or nothing can be written to it.
        RuntimeError: The backbone cannot be exported in this way; the message has the reason.
    """
    path = Path(path)
    check_request(path, format, size=size, batch=batch, fixed=fixed, smallest=smallest, opset=opset)
    if not isinstance(backbone, Backbone):
        raise ConfigError(
            f"must be a Backbone, as build_backbone() gives it, got a {type(backbone).__name__}", ("backbone",)
        )
    name = type(backbone).__name__
    net = copy.deepcopy(backbone).eval().requires_grad_(False)
    reference = _prepared(net, preprocessing)
    levels = [net.feature_info[index + 1] for index in net.out_indices]
    stride = max(level.stride for level in net.feature_info[: max(net.out_indices) + 2])
    smallest = None if "size" in fixed else _smallest(smallest, size, stride)
    axes = {**({} if "batch" in fixed else {0: "N"}), **({} if "size" in fixed else {2: "H", 3: "W"})}
    dims = {axis: Dim(letter, min=smallest if axis else 1) for axis, letter in axes.items()}
    shape = (batch or (1 if "batch" in fixed else 2), *size)
    example = pictures(net, shape, pixels=preprocessing is not None)
    cure = "; with more of it fixed, it may" if axes else ""
    if smallest is not None and smallest < 2 * stride:
        cure = f"; with smallest at {2 * stride}, twice the largest stride, and not at {smallest}, it may"
    outputs = [f"{level.name}_stride{level.stride}" for level in levels]
    with torch.no_grad(), quiet(), appearing(path) as written:
        with explained(f"{name} cannot run on {size[0]}x{size[1]} pixels"):
            maps = reference(example)
            merged = merge_layers(copy.deepcopy(net), pictures(net, shape))
        with explained(f"torch.export cannot trace {name} for {_any(axes)}", cure):
            program = torch.export.export(
                _prepared(merged, preprocessing), (example,), dynamic_shapes=(dims,) if dims else None
            )
        with explained(f"{name} for {_any(axes)} does not become {format}", cure):
            FORMATS[format].write(Task(program, written, axes, outputs, opset))
        files = tuple(path.parent / file.name for file in sorted(written.parent.iterdir()))
    ports = [
        Port(output, y.dtype, _shape(y, axes, level.stride, len(y) // len(example)))
        for output, y, level in zip(outputs, maps, levels, strict=True)
    ]
    return Exported(
        path,
        files,
        format,
        Port(INPUT, example.dtype, _shape(example, axes)),
        tuple(ports),
        smallest,
        reference,
        example,
    )


def pictures(net: nn.Module, shape: Sequence[int], *, pixels: bool = False) -> Tensor:
    """A batch (N, C, H, W) of noise that is the same every time, as `net` takes it.

    Args:
        net: Whose first convolution, device and dtype it is for.
        shape: N, H and W.
        pixels: Whether they are whole numbers from 0 to 255.
    """
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    batch, *size = shape
    generator = torch.Generator().manual_seed(0)
    if pixels:
        noise = torch.randint(256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
        return noise.to(conv.weight.device)
    return torch.randn(batch, conv.in_channels, *size, generator=generator).to(conv.weight)


def check_request(
    path: Path,
    format: Kind,
    *,
    size: Sequence[int],
    batch: int | None,
    fixed: Collection[Extent],
    smallest: int | None,
    opset: int | None,
) -> None:
    """Refuses what is wrong whatever the backbone: before one is built, before anything is written.

    Raises:
        ConfigError, ModuleNotFoundError, OSError: As `export_backbone` does.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"must be one of {', '.join(FORMATS)}, got {format!r}{did_you_mean(format, FORMATS)}", ("format",)
        )
    if path.suffix != FORMATS[format].suffix:
        raise ConfigError(f"must end with {FORMATS[format].suffix} for format {format!r}, got {str(path)!r}", ("path",))
    numbers = dict(batch=batch, smallest=smallest, opset=opset)
    problems = check_arguments(export_backbone, numbers, supplied=("backbone", "path", "format"))
    if problems:
        raise ConfigError(problems)
    if isinstance(fixed, str) or not {*fixed} <= {"batch", "size"}:
        raise ConfigError(f"must hold 'batch', 'size' or both, got {fixed!r}", ("fixed",))
    if smallest is not None and "size" in fixed:
        raise ConfigError("is for files that take any size, and fixed has 'size'", ("smallest",))
    if opset is not None and format != "onnx":
        raise ConfigError(f"is for format 'onnx' alone, not {format!r}", ("opset",))
    if check_value(size, Sequence[int], ()) or len(size) != 2 or min(size) < 1:
        raise ConfigError(f"must be H and W in pixels, such as (224, 224), got {size!r}", ("size",))
    if batch is not None and batch < 1:
        raise ConfigError(f"must be at least 1, got {batch}", ("batch",))
    if batch == 1 and "batch" not in fixed:
        raise ConfigError(
            "must be at least 2 where any batch is taken, got 1, which torch takes for a constant; "
            "a fixed batch may be 1",
            ("batch",),
        )
    need(FORMATS[format].packages, f"format {format!r}")
    check_place(path)


def _smallest(smallest: int | None, size: Sequence[int], stride: int) -> int:
    """The least H and W of a file for any size, where the largest stride is `stride`."""
    if smallest is None:
        smallest = 2 * stride
    if smallest <= stride:
        raise ConfigError(
            f"must be more than {stride}, the largest stride, got {smallest}: torch takes a map of one pixel for a "
            f"constant; {2 * stride} does for every net",
            ("smallest",),
        )
    if min(size) < smallest:
        raise ConfigError(
            f"must be at least {smallest} x {smallest} where any size from there on is taken, got "
            f"{size[0]} x {size[1]}; a fixed size may be smaller",
            ("size",),
        )
    return smallest


def _prepared(net: nn.Module, preprocessing: Preprocessing | None) -> nn.Module:
    """The net behind what prepares its pictures."""
    if preprocessing is None:
        return net
    if not isinstance(preprocessing, Preprocessing):
        raise ConfigError(f"must be a Preprocessing or None, got a {type(preprocessing).__name__}", ("preprocessing",))
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    if conv.in_channels != 3:
        raise ConfigError(f"is for pictures of 3 channels, the backbone takes {conv.in_channels}", ("preprocessing",))
    normalize = Normalize(preprocessing, conv.weight.dtype).to(conv.weight.device)
    return nn.Sequential(OrderedDict(normalize=normalize, net=net)).eval()


def _any(axes: Mapping[int, str]) -> str:
    return f"any {', '.join(axes.values())}" if axes else "a fixed size"


def _shape(x: Tensor, axes: Mapping[int, str], stride: int = 1, times: int = 1) -> tuple[int | str, ...]:
    """A tensor's shape with the names of axes that may have any size; N is a picture's `times`."""
    before, behind = (f"{times}" if times > 1 else ""), (f"/{stride}" if stride > 1 else "")
    names = {axis: f"{name}{behind}" if axis else f"{before}{name}" for axis, name in axes.items()}
    return tuple(names.get(axis, n) for axis, n in enumerate(x.shape))
