"""What no map depends on is found, and frozen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbone_kit import ConfigError, build_backbone
from backbone_kit.finetune import freeze_unused
from backbone_kit.heads import ClassifierHead
from tests.backbones.test_contract import per_class_slowly, tiny


@pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")
@per_class_slowly
def test_what_is_left_gets_a_gradient_and_what_is_frozen_got_none(kind: str) -> None:
    net = tiny(kind, out_indices=(0,), frozen_stages=-1)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    net.train()(torch.rand(2, 3, 64, 64))[0].sum().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None}
    assert set(freeze_unused(net)) == trained - reached
    assert {name for name, p in net.named_parameters() if p.requires_grad} == reached


def test_what_holds_backbones_is_left_alone_and_so_are_their_modes() -> None:
    net = build_backbone("resnet18", out_indices=(1,), with_cp=True).train()
    model = nn.ModuleDict(dict(a=ClassifierHead(net, 3), b=build_backbone("resnet18", out_indices=(3,))))
    counted = net.bn1.num_batches_tracked.clone()
    frozen = freeze_unused(model)
    assert {name.rsplit(".", 4)[0] for name in frozen} <= {"a.backbone", "a.backbone.layer3", "a.backbone.layer4"}
    assert model["a"].fc.weight.requires_grad
    assert all(p.requires_grad for p in model["b"].parameters())
    assert net.layer4.training
    assert net.layer1[0].with_cp
    assert net.bn1.num_batches_tracked == counted
    assert freeze_unused(model) == []


def test_a_net_of_one_size_takes_that() -> None:
    vit = dict(type="TimmBackbone", model_name="vit_tiny_patch16_224", out_indices=(0,))
    net = build_backbone(vit, model_args=dict(depth=3))
    with pytest.raises(ConfigError, match=r"size: TimmBackbone does not take pictures of \(256, 256\): .*\(224\)"):
        freeze_unused(net)
    assert freeze_unused(net, size=(224, 224))


def test_levels_that_its_holder_takes_are_in_use() -> None:
    net = build_backbone("resnet18", out_indices=(0,))
    model = nn.ModuleDict(dict(body=net))
    model.used_levels = ("stem", "layer3")
    assert {name.split(".")[1] for name in freeze_unused(model)} == {"layer4"}


def test_a_budget_is_for_the_pictures_that_come_later() -> None:
    net = build_backbone("resnet18", out_indices=(2,), recompute=dict(budget_mb=1))
    assert {name.split(".")[0] for name in freeze_unused(net)} == {"layer4"}
