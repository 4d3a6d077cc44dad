"""Norms that are activations too: timm's layers, the papers' formulas, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.layers import build_norm_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

KINDS: dict[str, Any] = {
    "EvoNormS0": ({"groups": 3}, lambda: timm.layers.EvoNorm2dS0(6, groups=3)),
    "FRN": ({}, lambda: timm.layers.FilterResponseNormTlu2d(6)),
}
BOTH = pytest.mark.parametrize("kind", KINDS)


def layer(kind: str) -> nn.Module:
    net = build_norm_layer({"type": kind, **KINDS[kind][0]}, 6)[1].double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


@BOTH
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_equals_timm(kind: str, memory_format: torch.memory_format) -> None:
    net, peer = layer(kind), KINDS[kind][1]().double()
    peer.load_state_dict(net.state_dict())
    x = torch.randn(2, 6, 4, 5).double().contiguous(memory_format=memory_format)
    # timm takes its statistics in float32, whatever the map
    torch.testing.assert_close(net(x), peer(x), rtol=1e-6, atol=1e-6)


def evo(net: Any, image: Tensor) -> Tensor:
    out = torch.empty_like(image)
    for i, channel in enumerate(image):
        group = image[i // 2 * 2 : i // 2 * 2 + 2].flatten()
        variance = ((group - group.mean()) ** 2).mean()
        gate = 1 / (1 + (-net.v[i] * channel).exp())
        out[i] = channel * gate / (variance + 1e-5).sqrt() * net.weight[i] + net.bias[i]
    return out


def frn(net: Any, image: Tensor) -> Tensor:
    out = torch.empty_like(image)
    for i, channel in enumerate(image):
        y = channel / ((channel**2).mean() + 1e-5).sqrt() * net.weight[i] + net.bias[i]
        out[i] = torch.where(y > net.tau[i], y, net.tau[i])
    return out


@pytest.mark.parametrize(("kind", "formula"), [("EvoNormS0", evo), ("FRN", frn)])
@torch.no_grad()
def test_it_is_the_papers_formula(kind: str, formula: Any) -> None:
    net, x = layer(kind), torch.randn(2, 6, 4, 5).double()
    torch.testing.assert_close(net(x), torch.stack([formula(net, image) for image in x]))


@BOTH
def test_reset_parameters_gives_timms_start(kind: str) -> None:
    net, peer = layer(kind), KINDS[kind][1]().double()
    net.reset_parameters()  # type: ignore[operator]
    assert all(torch.equal(net.state_dict()[key], value) for key, value in peer.state_dict().items())


@BOTH
def test_half_precision_keeps_its_range(kind: str) -> None:
    net, x = layer(kind).half(), (1000 * torch.randn(1, 6, 8, 8)).half()  # squares are beyond half's 65,504
    torch.testing.assert_close(net(x), net.float()(x.float()).half(), rtol=1e-2, atol=1e-2)


@BOTH
def test_gradients(kind: str) -> None:
    net, x = layer(kind), torch.randn(2, 6, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, *net.parameters()))


@pytest.mark.slow
@dynamic_export
@BOTH
def test_it_compiles_whole_trains_and_exports_for_any_size(kind: str) -> None:
    compiles_trains_and_exports(layer(kind), torch.randn(2, 6, 4, 6).double(), torch.randn(3, 6, 7, 9).double())


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ConfigError, match="groups: EvoNormS0: must divide the 6 channels, got 4"):
        build_norm_layer({"type": "EvoNormS0", "groups": 4}, 6)
