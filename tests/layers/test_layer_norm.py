"""LN2d: each pixel normalised over its channels, whatever the memory format."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit import ConfigError
from backbone_kit.backbones import ResNet
from backbone_kit.layers import LayerNorm2d, build_norm_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports


def layer(**arguments: Any) -> LayerNorm2d:
    net = LayerNorm2d(5, eps=1e-3, **arguments).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_formula_and_timms_layer(memory_format: torch.memory_format) -> None:
    net, x = layer(), torch.randn(2, 5, 3, 4).double().contiguous(memory_format=memory_format)
    mean = sum(x[:, i] for i in range(5)) / 5
    variance = sum((x[:, i] - mean) ** 2 for i in range(5)) / 5
    expected = [(x[:, i] - mean) / (variance + 1e-3).sqrt() * net.weight[i] + net.bias[i] for i in range(5)]
    torch.testing.assert_close(net(x), torch.stack(expected, 1))

    peer = timm.layers.LayerNorm2d(5, eps=1e-3).double()
    peer.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), peer(x))


def test_it_is_built_by_name_with_that_short_name() -> None:
    name, net = build_norm_layer({"type": "LN2d", "eps": 1e-6, "requires_grad": False}, 7, postfix=2)
    assert (name, type(net), net.eps, net.weight.requires_grad) == ("ln2", LayerNorm2d, 1e-6, False)
    assert [key for key, _ in layer(bias=False).named_parameters()] == ["weight"]
    assert not list(layer(elementwise_affine=False).parameters())


def test_it_is_a_norm_of_maps_where_ln_is_refused() -> None:
    net = ResNet(18, base_channels=8, norm_cfg={"type": "LN2d"})
    assert isinstance(net.ln1, LayerNorm2d)
    with pytest.raises(ConfigError, match=r"norm_cfg.type: 'LN' is no norm layer for maps"):
        ResNet(18, norm_cfg={"type": "LN"})


def test_channels_last_is_not_copied() -> None:
    x = torch.randn(2, 5, 3, 4).contiguous(memory_format=torch.channels_last)
    assert LayerNorm2d(5)(x).is_contiguous(memory_format=torch.channels_last)


def test_gradients() -> None:
    net, x = layer(), torch.randn(2, 5, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, net.weight, net.bias))


@dynamic_export
def test_it_compiles_whole_trains_and_exports_for_any_size() -> None:
    compiles_trains_and_exports(layer(), torch.randn(2, 5, 4, 6).double(), torch.randn(3, 5, 7, 9).double())
