"""Norms by size alone: timm's layers, the formula pixel by pixel, gradients."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit.layers import build_norm_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

SIZES: dict[str, Any] = {
    "RMSNorm2d": lambda values: sum(value**2 for value in values) / len(values),
    "SimpleNorm2d": statistics.variance,
}
BOTH = pytest.mark.parametrize("kind", SIZES)


def layer(kind: str) -> nn.Module:
    net = build_norm_layer({"type": kind}, 5)[1].double()
    nn.init.normal_(net.weight)  # type: ignore[arg-type]
    return net


@BOTH
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_it_is_the_formula_and_timms_layer(kind: str, memory_format: torch.memory_format) -> None:
    net, x = layer(kind), torch.randn(2, 5, 3, 4).double().contiguous(memory_format=memory_format)
    expected = torch.empty_like(x)
    for n in range(2):
        for h in range(3):
            for w in range(4):
                pixel = x[n, :, h, w]
                expected[n, :, h, w] = pixel / (SIZES[kind](pixel.tolist()) + 1e-6) ** 0.5 * net.weight
    torch.testing.assert_close(net(x), expected)

    peer = getattr(timm.layers, kind.replace("RMS", "Rms"))(5).double()
    peer.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), peer(x))


@BOTH
def test_half_precision_keeps_its_range(kind: str) -> None:
    net, x = layer(kind).half(), (1000 * torch.randn(1, 5, 4, 4)).half()  # squares are beyond half's 65,504
    torch.testing.assert_close(net(x), net.float()(x.float()).half(), rtol=1e-2, atol=1e-2)


@BOTH
def test_gradients(kind: str) -> None:
    net, x = layer(kind), torch.randn(2, 5, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, net.weight))


@pytest.mark.slow
@dynamic_export
@BOTH
def test_it_compiles_whole_trains_and_exports_for_any_size(kind: str) -> None:
    compiles_trains_and_exports(layer(kind), torch.randn(2, 5, 4, 6).double(), torch.randn(3, 5, 7, 9).double())
