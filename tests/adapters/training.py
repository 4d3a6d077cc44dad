"""What every consumer's test asks: a backbone whose first stages are frozen, and whether one step leaves them so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from backbone_kit import build_backbone
from backbone_kit.backbones import Backbone


def loaded(name: str = "resnet18", **overrides: Any) -> Backbone:
    """A backbone with its stem and first stage frozen, and BatchNorms as if weights had been loaded."""
    net = build_backbone(name, **{"frozen_stages": 1, **overrides})
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)  # a gamma of 0 would keep what is before it from training
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return net


def one_step(model: nn.Module, net: Backbone, loss: Callable[[], Tensor]) -> None:
    """Trains `model` for one step: of its backbone `net`, all changes that should, and nothing else."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    model.train()
    loss().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    parameters = dict(net.named_parameters())
    frozen = ("conv1.", "bn1.", "layer1.")
    assert not [name for name in changed if name.startswith(frozen)]
    should = {name for name in parameters if not name.startswith(frozen)}
    assert should
    assert changed & set(parameters) == should
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
