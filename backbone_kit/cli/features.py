"""A real forward of a picture, beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis import Report, capture
from .parser import CommandError
from .picture import read_picture
from .prediction import report_on, running
from .preprocessing import Preprocessing, find_preprocessing
from .table import Table
from .weights import build_with_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Features:
    """What a backbone makes of a picture.

    Attributes:
        model: The net that ran.
        report: What was predicted for this size.
        picture: (H, W, 3), RGB from 0 to 255, as it was after resizing.
        preprocessing: What came between the picture and the net.
        weights: Where the weights come from, in words.
        maps: The output of every part, (1, C, H, W), by the part's name.
    """

    model: nn.Module
    report: Report
    picture: Tensor
    preprocessing: Preprocessing
    weights: str
    maps: dict[str, Tensor]

    def caption(self) -> str:
        """What the numbers below were made of."""
        height, width, _ = self.picture.shape
        return f"measured on the picture at {height}x{width}, weights {self.weights};\n{self.preprocessing}"

    def table(self) -> Table:
        """One row a part: the predicted shape, the measured one and statistics."""
        columns = ("part", ">predicted", ">measured", ">mean", ">std", ">min", ">max", ">zeros")
        rows = []
        for part in self.report.parts:
            if (x := self.maps.get(part.name)) is not None:
                predicted, measured = ("x".join(map(str, s)) for s in (_shape(part), x.shape[1:]))
                numbers = [f"{value:.4g}" for name, value in _statistics(x).items() if name != "zeros"]
                rows.append([part.name, predicted, measured, *numbers, f"{_statistics(x)['zeros']:.1%}"])
        return Table(columns, rows)

    def as_json(self) -> dict[str, Any]:
        """The same with raw numbers; what is not finite is null."""
        p = self.preprocessing
        levels = {name: {"shape": list(x.shape), **_finite(_statistics(x))} for name, x in self.maps.items()}
        return {
            "size": list(self.picture.shape[:2]),
            "weights": self.weights,
            "preprocessing": {"mean": p.mean, "std": p.std, "channel_order": p.channel_order, "source": p.source},
            "levels": levels,
        }


def compute_features(
    config: Mapping[str, Any], path: str, size: list[int] | None, *, at: str | None, weights: str | None
) -> Features:
    """Runs a picture through the backbone of a config.

    Args:
        config: The whole config, for its preprocessing.
        path: The picture.
        size: (H, W) to resize the picture to, None for its own.
        at: Where the backbone is in the config, None for the usual places.
        weights: A checkpoint, 'config' for what the config names, None for random ones from seed 0.

    Raises:
        CommandError: The picture cannot be read, the config names no checkpoint, the net cannot run or does not take
            pictures with three channels, or what it returned is not what was predicted.
    """
    picture = read_picture(path, size)
    preprocessing = find_preprocessing(config)
    model, loaded = build_with_weights(config, at=at, weights=weights)
    extent = picture.shape[0], picture.shape[1]
    report = report_on(model, extent)
    if report.input_shape[1] != 3:
        raise CommandError(f"the backbone takes {report.input_shape[1]} channels, a picture has 3")
    with running(model, extent):
        maps = capture(model, preprocessing(picture))
    for part in report.parts:
        measured = tuple(maps[part.name].shape[1:]) if part.name in maps else None
        if part.channels is not None and measured != _shape(part):
            raise CommandError(f"{part.name}: predicted {_shape(part)}, measured {measured}; please report this")
    return Features(model, report, picture, preprocessing, loaded, maps)


def _shape(part: Any) -> tuple[int, ...]:
    return (part.channels, *(part.size or ()))


def _statistics(x: Tensor) -> dict[str, float]:
    x = x.float()
    return {
        "mean": x.mean().item(),
        "std": x.std(correction=0).item(),
        "min": x.min().item(),
        "max": x.max().item(),
        "zeros": (x == 0).float().mean().item(),
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}
