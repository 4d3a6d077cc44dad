"""What a model costs and what its features look like, part by part: `analyze`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .calls import tensors
from .parts import Contents, Part, contents_of, parts_of
from .trace import Tally, evaluating, trace, watching


@dataclass(frozen=True)
class PartReport:
    """One part of a model.

    Attributes:
        name: 'stem', 'layer1', …
        blocks: How many blocks are stacked in it, None where that means nothing.
        out_index: The position of its output among the model's outputs, None where it is not one of them.
        channels: Of its output, None where the forward does not reach it.
        size: (H, W) of its output, None where it has none.
        stride: Input pixels from one position of its output to the next, as the model describes it, else as traced;
            None where there is no next, or no telling.
        receptive_field: Input pixels that a value can depend on along each axis; `inf` where unbounded.
        contents: Parameters, what is frozen, dilations, special convolutions, plugins.
        macs: Multiply-accumulates; one is two FLOPs.
        activation_bytes: Size of all tensors that it makes in one forward; views and writes in place make none.
    """

    name: str
    blocks: int | None
    out_index: int | None
    channels: int | None
    size: tuple[int, ...] | None
    stride: int | None
    receptive_field: tuple[float, ...] | None
    contents: Contents
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Report:
    """A whole model at one input size.

    Attributes:
        input_shape: (N, C, H, W).
        parts: In execution order.
        contents: Of the whole model, what is outside of all parts included.
        macs: Multiply-accumulates of one forward.
        activation_bytes: Size of all tensors made in one forward.
        light_ops: Operations that hold no convolution or matrix product (elementwise, norms, poolings) and are not in
            `macs`: name to count.
        uncounted_ops: Operations not in `macs` because no formula is known: name to count.
    """

    input_shape: tuple[int, ...]
    parts: tuple[PartReport, ...]
    contents: Contents
    macs: int
    activation_bytes: int
    light_ops: dict[str, int]
    uncounted_ops: dict[str, int]


def analyze(model: nn.Module, input_size: tuple[int, int] = (224, 224), *, in_channels: int | None = None) -> Report:
    """Shapes, receptive fields, parameters and cost of a model, found by one forward on the meta device.

    Args:
        model: Any module that takes a batch of images; on any device, and left as it was. One that has `describe()` is
            reported by its own parts, any other child by child.
        input_size: (H, W) in pixels.
        in_channels: Channels of the image; None means what the first convolution takes.

    Examples:
        >>> report = analyze(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)), (32, 32))
        >>> report.parts[0].size, report.parts[0].receptive_field, report.macs
        ((16, 16), (3, 3), 55296)
    """
    shape = (1, input_channels(model) if in_channels is None else in_channels, *input_size)
    parts = parts_of(model)
    tallies = trace(model, parts, torch.empty(shape, device="meta"))
    rows = []
    for part in parts:
        tally, contents = tallies[part.name], contents_of(model.get_submodule(name) for name in part.modules)
        size = tally.shape[2:] if tally.shape and len(tally.shape) > 2 else None
        rows.append(
            PartReport(
                name=part.name,
                blocks=part.blocks,
                out_index=part.out_index,
                channels=tally.shape[1] if tally.shape else None,
                size=size,
                stride=_stride(part, tally) if size else None,
                receptive_field=tally.receptive_field,
                contents=contents,
                macs=tally.macs,
                activation_bytes=tally.activation_bytes,
            )
        )
    done = list(tallies.values())
    return Report(
        input_shape=shape,
        parts=tuple(rows),
        contents=contents_of([model]),
        macs=sum(tally.macs for tally in done),
        activation_bytes=sum(tally.activation_bytes for tally in done),
        light_ops=_together(tally.light_ops for tally in done),
        uncounted_ops=_together(tally.uncounted_ops for tally in done),
    )


def _stride(part: Part, tally: Tally) -> int | None:
    stride = part.stride if part.stride is not None else tally.stride
    return None if stride is None else round(stride)


def _together(counts: Iterable[Counter[str]]) -> dict[str, int]:
    return dict(sum(counts, Counter()).most_common())


def capture(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The output of every part in a real forward of `x`, by the part's name.

    Args:
        model: Any module, as for `analyze`; run in eval mode and without gradients, and left as it was.
        x: (N, C, H, W), on the model's device.
    """
    maps: dict[str, Tensor] = {}

    def keep(part: str, output: object) -> None:
        maps.update({part: found[0]} if (found := tensors(output)) else {})

    with evaluating(model), watching(model, parts_of(model), lambda part: None, keep):
        model(x)
    return maps


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """The number of parameters; shared ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def input_channels(model: nn.Module) -> int:
    """What the first convolution takes, 3 where there is none."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            return module.in_channels
    return 3
