"""A ResNet with another norm than BatchNorm is torchvision's with that norm."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from backbone_kit.backbones import ResNet

from .test_peers import LAYERS, relative_difference

PEERS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "GN": (dict(type="GN", num_groups=8), partial(nn.GroupNorm, 8), "gn"),
    "IN": (dict(type="IN"), nn.InstanceNorm2d, "in"),
    "IN with gammas": (dict(type="IN", affine=True), partial(nn.InstanceNorm2d, affine=True), "in"),
    "FrozenBN": (dict(type="FrozenBN"), torchvision.ops.FrozenBatchNorm2d, "bn"),
    "BN with another eps": (dict(type="BN", eps=0.1), partial(nn.BatchNorm2d, eps=0.1), "bn"),
    "SyncBN": (dict(type="SyncBN"), nn.BatchNorm2d, "bn"),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("training", [False, True])
def test_equals_torchvisions(name: str, training: bool) -> None:
    cfg, norm, short = PEERS[name]
    peer = torchvision.models.resnet18(weights=None, norm_layer=lambda channels: norm(channels))
    peer = peer.double().train(training)
    for key, value in peer.state_dict().items():
        if not key.endswith("num_batches_tracked") and value.ndim == 1:
            nn.init.uniform_(value, 0.5, 1.5)
    net = ResNet(18, norm_cfg=cfg, norm_eval=False).double().train(training)
    net.load_state_dict({re.sub(r"\bbn", short, key): v for key, v in peer.state_dict().items() if "fc." not in key})
    levels = torchvision.models._utils.IntermediateLayerGetter(peer, LAYERS)
    x = torch.randn(2, 3, 64, 96).double()  # in float32, a map's value next to 0 may pass one ReLU and not the other
    ours, theirs = net(x), list(levels(x).values())
    assert relative_difference(tuple(y.detach() for y in ours), [y.detach() for y in theirs]) < 1e-10
    for outputs in (ours, theirs):
        sum(y.square().mean() for y in outputs).backward()
    gradients = dict(peer.named_parameters())
    for key, parameter in net.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[re.sub(rf"\b{short}(?=\d)", "bn", key)].grad, rtol=1e-9, atol=1e-9, msg=key
        )


@pytest.mark.parametrize(("cfg", "zeroed"), [(dict(type="IN"), 0), (dict(type="IN", affine=True), 8), ({}, 8)])
def test_the_last_gamma_is_zeroed_where_there_is_one(cfg: dict[str, Any], zeroed: int) -> None:
    net = ResNet(18, norm_cfg=cfg or dict(type="GN", num_groups=8))
    blocks = [block for stage in list(net.children())[-4:] for block in stage]
    gammas = [getattr(block.norm2, "weight", None) for block in blocks]
    assert sum(gamma is not None and not gamma.any() for gamma in gammas) == zeroed
