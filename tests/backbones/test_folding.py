"""Norms folded in training: in every backbone the same maps and gradients, and less kept for backward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit.backbones import Backbone, ResNet
from backbone_kit.layers import fold_norms, fuse_conv_bn

from ..kept import kept_bytes
from .test_contract import per_class, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")


def settled(net: Backbone) -> Backbone:
    """In training, each norm off its start."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.train()


def step(net: Backbone, x: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    outputs = net(x)
    sum(out.square().mean() for out in outputs).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {**gradients, **{f"map {i}": out.detach() for i, out in enumerate(outputs)}}


def has_pairs(net: Backbone, x: Tensor) -> bool:
    """Whether a plain convolution that trains has a BatchNorm behind it, as `fuse_conv_bn` finds them: by another way.

    Frozen ones, such as a GhostResNet's stem, keep nothing in either form.
    """
    fused = fuse_conv_bn(net, x)
    convs = {name: module for name, module in net.named_modules() if type(module) is nn.Conv2d}
    plain = {name: conv for name, conv in convs.items() if conv.weight.requires_grad}
    return any(not torch.equal(conv.weight, fused.get_submodule(name).weight) for name, conv in plain.items())


@per_class
def test_it_is_the_same_net_that_keeps_less(kind: str) -> None:
    folded = settled(tiny(kind, frozen_stages=1, norm_eval=True)).double()
    plain = fold_norms(copy.deepcopy(folded), False)
    x = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    ours, expected = step(folded, x), step(plain, x)
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-7, atol=1e-9, msg=f"{key}: {{}}".format)
    assert (kept_bytes(folded, x) < kept_bytes(plain, x)) is has_pairs(folded, x)


def test_recomputed_blocks_are_folded_too() -> None:
    net = settled(ResNet(50, layers=(1, 1, 1, 1), base_channels=16))
    again = ResNet(50, layers=(1, 1, 1, 1), base_channels=16, with_cp=True).train()
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    recomputed = step(again, x)
    for key, value in step(net, x).items():
        torch.testing.assert_close(recomputed[key], value, msg=f"{key}: {{}}".format)
    assert kept_bytes(again, x) < kept_bytes(net, x)


def test_half_of_what_a_resnet_kept_is_left() -> None:
    """The trainable convolutions' inputs are 239 of the 474 MiB that MMDetection's ResNet-50 keeps at 2x3x512x512."""
    net = ResNet(50, frozen_stages=1, norm_eval=True).train()
    x = torch.randn(2, 3, 256, 256)
    assert kept_bytes(net, x) < 0.58 * kept_bytes(fold_norms(copy.deepcopy(net), False), x)
