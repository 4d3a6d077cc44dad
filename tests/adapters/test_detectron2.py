"""detectron2's contract: `Backbone` and `ShapeSpec`, written down here, as there is no package to install."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import nn

from backbone_kit import ConfigError

from .training import loaded, one_step


class ShapeSpec(NamedTuple):
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class DetectronBackbone(nn.Module):
    """What detectron2's FPN, RPN and heads ask of it."""

    @property
    def size_divisibility(self) -> int:
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels, strides = self._out_feature_channels, self._out_feature_strides
        return {name: ShapeSpec(channels=channels[name], stride=strides[name]) for name in self._out_features}


class Pyramid(nn.Module):
    """A pyramid as detectron2 builds it: from `output_shape()`, doubling the coarser map."""

    def __init__(self, bottom_up: nn.Module, in_features: list[str], out_channels: int) -> None:
        super().__init__()
        assert isinstance(bottom_up, DetectronBackbone)
        shapes = bottom_up.output_shape()
        self.bottom_up, self.in_features = bottom_up, in_features
        assert [shapes[name].stride for name in in_features] == [4, 8, 16, 32]
        self.lateral = nn.ModuleList(nn.Conv2d(shapes[name].channels, out_channels, 1) for name in in_features)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.bottom_up(x)
        sides = [lateral(maps[name]) for lateral, name in zip(self.lateral, self.in_features)]
        for i in reversed(range(len(sides) - 1)):
            sides[i] = sides[i] + nn.functional.interpolate(sides[i + 1], scale_factor=2.0, mode="nearest")
        return sides


@pytest.fixture(name="as_detectron2")
def _as_detectron2(monkeypatch: pytest.MonkeyPatch):
    for name in ("detectron2", "detectron2.layers", "detectron2.modeling"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["detectron2.layers"].ShapeSpec = ShapeSpec
    sys.modules["detectron2.modeling"].Backbone = DetectronBackbone
    monkeypatch.delitem(sys.modules, "backbone_kit.adapters.detectron2", raising=False)
    import backbone_kit.adapters

    yield backbone_kit.adapters.as_detectron2
    sys.modules.pop("backbone_kit.adapters.detectron2", None)


def test_a_pyramid_around_it_trains(as_detectron2) -> None:
    net = loaded()
    model = Pyramid(as_detectron2(net), ["res2", "res3", "res4", "res5"], 8)
    one_step(model, net, lambda: sum(m.square().mean() for m in model(torch.rand(2, 3, 64, 96))))


def test_shapes_are_those_of_the_maps(as_detectron2) -> None:
    backbone = as_detectron2(loaded(out_indices=(3, 1), output_stride=16))
    assert backbone.output_shape() == {"res5": ShapeSpec(512, stride=16), "res3": ShapeSpec(128, stride=8)}
    maps = backbone.eval()(torch.rand(1, 3, 64, 64))
    assert {name: (m.shape[1], 64 // m.shape[2]) for name, m in maps.items()} == {"res5": (512, 16), "res3": (128, 8)}
    assert backbone.size_divisibility == 0


def test_what_is_no_backbone_is_refused(as_detectron2) -> None:
    with pytest.raises(ConfigError, match=r"^backbone: .* as build_backbone\('resnet18'\) gives it, got a str"):
        as_detectron2("resnet18")
