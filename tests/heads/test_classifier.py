"""ClassifierHead classifies as torchvision's and timm's nets do, on their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from backbone_kit import CheckpointError, ConfigError, build_backbone
from backbone_kit.heads import ClassifierHead

from ..backbones.test_peers import randomized


@torch.no_grad()
def test_a_file_of_torchvision_loads_whole(tmp_path: Path) -> None:
    peer = randomized(torchvision.models.resnet18(weights=None, num_classes=7))
    torch.save(peer.state_dict(), tmp_path / "resnet18.pth")
    net = ClassifierHead(build_backbone("resnet18"), 7).eval()
    report = net.load_checkpoint(tmp_path / "resnet18.pth")
    assert not report.missing
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(x), peer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
@torch.no_grad()
def test_pools_as_timm(pool: str) -> None:
    peer = randomized(timm.create_model("resnet10t", num_classes=5, global_pool=pool))
    net = ClassifierHead(build_backbone("resnet10t"), 5, pool).eval()
    net.load_checkpoint(peer.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net.forward_features(x), peer.forward_features(x), rtol=1e-5, atol=1e-5)
    features = net.forward_features(x)
    torch.testing.assert_close(
        net.forward_head(features, pre_logits=True), peer.forward_head(features, pre_logits=True)
    )
    torch.testing.assert_close(net(x), peer(x), rtol=1e-5, atol=1e-5)
    assert net.num_features == peer.num_features


def test_dropout_acts_while_training_only() -> None:
    net = ClassifierHead(build_backbone("resnet18"), 0, drop_rate=0.5)
    ones = torch.ones(1, 512, 2, 2)
    assert torch.equal(net.eval().forward_head(ones), torch.ones(1, 512))
    dropped = net.train().forward_head(ones)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_the_linear_layer_can_be_exchanged() -> None:
    net = ClassifierHead(build_backbone("resnet18"), 10)
    assert isinstance(net.get_classifier(), nn.Linear)
    net.reset_classifier(3, "catavgmax")
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    net.reset_classifier(0)
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 1024)


def test_a_linear_layer_of_another_size_is_refused_and_nothing_changes() -> None:
    peer = torchvision.models.resnet18(weights=None)
    net = ClassifierHead(build_backbone("resnet18"), 10)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"fc.weight is \(1000, 512\) there, \(10, 512\) here; reset_classifier"):
        net.load_checkpoint(peer.state_dict())
    headless = {key: value for key, value in peer.state_dict().items() if "fc." not in key}
    with pytest.raises(CheckpointError, match=r"fc.weight is not there; load_checkpoint\(head.backbone"):
        net.load_checkpoint(headless)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes: must be 0 or more, got -1"),
        ({"global_pool": "mean"}, "global_pool: must be one of avg, max, avgmax, catavgmax, got 'mean'"),
        ({"drop_rate": 1.0}, "drop_rate: must be from 0 to less than 1, got 1.0"),
    ],
)
def test_bad_arguments_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifierHead(build_backbone("resnet18"), **options)
