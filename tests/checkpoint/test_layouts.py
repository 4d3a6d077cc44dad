"""Weights of other libraries load here, compute the same, and go back as they came."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from backbone_kit import (
    BACKBONES,
    build_from_cfg,
    convert_state_dict,
    detect_layout,
    load_checkpoint,
)

from .peers import randomised, relative_difference

R18 = dict(type="ResNet", depth=18)
GN = dict(type="GN", num_groups=8)


def torchvision_net(name: str, **options: Any) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **options)


def transformers_net(**options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**options))


def features(net: nn.Module, x: Tensor) -> Tensor:
    """The last map of a net of theirs."""
    if hasattr(net, "forward_features"):
        return net.forward_features(x)
    if hasattr(net, "resnet"):
        return net.resnet(x).last_hidden_state
    for name, child in net.named_children():
        if name == "avgpool":
            break
        x = child(x)
    return x


PEERS = {
    "torchvision-resnet18": (partial(torchvision_net, "resnet18"), R18, "torchvision"),
    "torchvision-resnet18-gn": (
        partial(torchvision_net, "resnet18", norm_layer=partial(nn.GroupNorm, 8)),
        dict(R18, norm_cfg=GN),
        "torchvision",
    ),
    "timm-resnet50": (
        partial(timm.create_model, "resnet50"),
        dict(type="ResNet", depth=50),
        "torchvision",
    ),
    "timm-resnet18d": (partial(timm.create_model, "resnet18d"), dict(type="ResNetV1d", depth=18), "timm"),
    "transformers-basic": (
        partial(transformers_net, depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic"),
        R18,
        "transformers",
    ),
    "transformers-bottleneck": (
        partial(transformers_net, depths=[3, 4, 6, 3]),
        dict(type="ResNet", depth=50),
        "transformers",
    ),
}


@pytest.mark.parametrize("case", PEERS)
def test_weights_load_and_compute_the_same_and_go_back(case: str) -> None:
    build, cfg, layout = PEERS[case]
    theirs = randomised(build())
    weights = theirs.state_dict()
    assert detect_layout(weights) == layout

    net = build_from_cfg(cfg, BACKBONES).eval()
    report = load_checkpoint(net, weights)
    assert (report.missing, report.unexpected, report.wrong_shape) == ((), (), {})
    assert set(report.matched) == set(net.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(net(x)[-1], features(theirs, x)) < 1e-5

    converted = convert_state_dict(weights)
    ours = {key: value for key, value in converted.items() if not key.startswith("fc.")}
    assert set(ours) == set(net.state_dict())
    heads = {key: converted[key] for key in converted if key.startswith("fc.")}
    back = convert_state_dict({**net.state_dict(), **heads}, source="mmdet", target=layout)
    assert sorted(back) == sorted(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)
    build().load_state_dict(back, strict=True)
