"""MMEngine's registries build our backbones."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS, Registry

from backbone_kit import ConfigError, build_backbone
from backbone_kit.adapters import register_in_mmengine
from backbone_kit.backbones import ResNet

from .training import loaded, one_step

MMDET = ConfigDict(
    type="backbone_kit.ResNet",
    depth=18,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type="BN", requires_grad=True),
    norm_eval=True,
    style="pytorch",
    dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, True, True, True),
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_children", dict(MODELS.children))
    monkeypatch.setattr(logging.getLogger("mmengine"), "disabled", True)
    register_in_mmengine()


class Detector(BaseModel):
    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        maps = self.backbone(inputs)
        return dict(loss=sum(m.square().mean() for m in maps)) if mode == "loss" else maps


@pytest.mark.parametrize("scope", ["the root", "a child"])
def test_a_registry_builds_it(scope: str) -> None:
    registry = MODELS if scope == "the root" else Registry("model", parent=MODELS, scope="zoo")
    given = MMDET.to_dict()
    net = registry.build(MMDET)
    assert type(net) is ResNet
    assert MMDET.to_dict() == given
    assert net.state_dict().keys() == build_backbone({**given, "type": "ResNet"}).state_dict().keys()


def test_every_backbone_is_there_once_more_where_it_is_called_again() -> None:
    first = register_in_mmengine()
    assert register_in_mmengine() is first
    assert {"ResNet", "ConvNeXt", "GhostNet"} <= set(first.module_dict)


def test_a_mistake_is_told_as_ever() -> None:
    with pytest.raises(ConfigError, match="dept: ResNet has no argument 'dept'; did you mean 'depth'"):
        MODELS.build(dict(type="backbone_kit.ResNet", dept=18))


def test_a_model_of_mmengines_loads_and_trains_it(tmp_path: Path) -> None:
    weights = loaded().state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "weights.pth"))
    model = Detector(dict(type="backbone_kit.ResNet", depth=18, frozen_stages=1, init_cfg=init_cfg))
    model.init_weights()
    assert all(torch.equal(value, weights[name]) for name, value in model.backbone.state_dict().items())
    one_step(model, model.backbone, lambda: model(torch.rand(2, 3, 64, 64), mode="loss")["loss"])
