"""A picture and what each level of a backbone sees in it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .parser import CommandError
from .picture import EXTRA
from .text import extent

if TYPE_CHECKING:
    from .features import Features

COLUMNS = 3
PANEL = 4.0  # inches along a panel's width


def check_target(path: str, *, picture: str) -> None:
    """Refuses, before the long work, a file that could not be written or that is the picture.

    Raises:
        CommandError: Likewise, or Matplotlib is missing.
    """
    file, suffixes = Path(path), [f".{name}" for name in _new_figure().canvas.get_supported_filetypes()]
    if file.suffix.lower() not in suffixes:
        reason = f"it must end in one of {', '.join(suffixes)}"
    elif not file.parent.is_dir():
        reason = f"there is no folder {file.parent}"
    elif file.is_dir():
        reason = "it is a folder"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        reason = "permission denied"
    elif file.exists() and os.path.exists(picture) and file.samefile(picture):
        reason = "it is the picture itself"
    else:
        return
    raise CommandError(f"--plot {path}: cannot be written: {reason}")


def _new_figure(**options: Any) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CommandError(f"--plot: matplotlib {EXTRA}") from error
    return Figure(**options)


def save_heatmaps(features: Features, path: str) -> None:
    """Saves the picture and, for every level, the mean absolute activation over channels at its own resolution.

    Colours are perceptually even and run from the 1st to the 99th percentile of each level.

    Raises:
        CommandError: Matplotlib is missing, or the file cannot be written.
    """
    panels = [part for part in features.report.parts if part.size and part.name != "pool"]
    rows, columns = math.ceil((len(panels) + 1) / COLUMNS), min(COLUMNS, len(panels) + 1)
    height, width, _ = features.picture.shape
    panel_height = PANEL * min(max(height / width, 0.4), 2.0) + 0.45
    figure = _new_figure(figsize=(PANEL * columns, panel_height * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    _show(next(axes), features.picture.numpy(), "picture", f"{height} x {width} pixels")
    for part in panels:
        heat = heat_of(features.maps[part.name])
        low, high = heat.flatten().quantile(torch.tensor([0.01, 0.99])).tolist()
        field = f"receptive field {extent(part.receptive_field)} px" if part.receptive_field else ""
        _show(
            next(axes),
            heat.numpy(),
            f"{part.name} · stride {part.stride} · {part.channels} channels",
            " · ".join(filter(None, (f"{heat.shape[0]} x {heat.shape[1]}", field))),
            extent=(0, width, height, 0),
            cmap="magma",
            vmin=low,
            vmax=high,
            interpolation="bilinear",
        )
    for empty in axes:
        empty.set_axis_off()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"--plot {Path(path)}: cannot be written: {reason}") from error


def heat_of(x: Tensor) -> Tensor:
    """The mean absolute value over channels of a map (1, C, H, W), as (H, W)."""
    return x[0].detach().float().abs().mean(0)


def _show(axis: Any, image: Any, title: str, subtitle: str, **options: Any) -> None:
    axis.imshow(image, **options)
    axis.set_title(title, fontsize=12, loc="left")
    axis.set_xlabel(subtitle, fontsize=10, loc="left", color="0.35")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
