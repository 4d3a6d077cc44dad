"""SAC is what DetectoRS defines, has its keys, and starts as a plain convolution."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbone_kit import ConfigError
from backbone_kit.layers import ConvAWS2d, SAConv2d, build_conv_layer
from backbone_kit.layers.switchable_conv import _reflected

from ..torch_versions import dynamic_export
from .definitions import switchable_convolution
from .graphs import compiles_trains_and_exports

KINDS = {
    "still": dict(),
    "deformed": dict(use_deform=True),
    "strided": dict(use_deform=True, stride=2),
    "dilated": dict(use_deform=True, dilation=2, padding=2),
    "grouped": dict(use_deform=True, groups=4),
}


def sac(*, padding: int = 1, **arguments: Any) -> SAConv2d:
    """A layer in which everything has an effect."""
    torch.manual_seed(0)
    cfg = dict(type="SAC", **{key: arguments.pop(key) for key in ("use_deform",) if key in arguments})
    built = build_conv_layer(cfg, 8, 12, 3, padding=padding, bias=False, **arguments)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    built.weight_gamma.normal_(1, 0.1)
    built.weight_beta.normal_(0, 0.1)
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_papers_definition(kind: str) -> None:
    net, x = sac(**KINDS[kind]).double(), torch.randn(2, 8, 9, 7).double()
    before = copy.deepcopy({key: value for key, value in vars(net).items() if not key.startswith("_")})
    torch.testing.assert_close(net(x), switchable_convolution(net, x), rtol=1e-10, atol=1e-10)
    assert {key: value for key, value in vars(net).items() if not key.startswith("_")} == before


def test_a_bias_is_added_before_the_last_context() -> None:
    net = build_conv_layer(dict(type="SAC"), 8, 12, 3, padding=1, bias=True)
    nn.init.normal_(net.bias)
    x = torch.randn(1, 8, 5, 5)
    out = net(x)
    bias, net.bias = net.bias, None
    torch.testing.assert_close(out, net(x) + bias.view(-1, 1, 1))


@pytest.mark.parametrize("arguments", [dict(), dict(use_deform=True)], ids=["still", "deformed"])
def test_it_starts_and_is_initialised_as_a_plain_convolution(arguments: dict[str, Any]) -> None:
    net = build_conv_layer(dict(type="SAC", **arguments), 8, 12, 3, stride=2, padding=1, bias=False)
    x = torch.randn(2, 8, 9, 7)
    for _ in range(2):
        plain = ConvAWS2d(8, 12, 3, stride=2, padding=1, bias=False)
        plain.load_state_dict({key: net.state_dict()[key] for key in plain.state_dict()})
        torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-5)
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        net.init_weights()


def test_a_plain_checkpoint_keeps_its_function() -> None:
    plain, net = nn.Conv2d(8, 12, 3, padding=1, bias=False), SAConv2d(8, 12, 3, padding=1, bias=False, use_deform=True)
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    x = torch.randn(1, 8, 5, 6)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-5)
    assert {key.split(".")[0] for key in missing} == set(net.brings_new)


def test_keys_are_mmcvs() -> None:
    built = SAConv2d(8, 12, 3, padding=1, bias=False, use_deform=True).state_dict()
    context = [f"{name}.{of}" for name in ("switch", "pre_context", "post_context") for of in ("weight", "bias")]
    offsets = [f"{name}.{of}" for name in ("offset_s", "offset_l") for of in ("weight", "bias")]
    assert list(built) == ["weight", "weight_diff", "weight_gamma", "weight_beta", *context, *offsets]
    assert built["switch.weight"].shape == (1, 8, 1, 1)
    assert built["offset_l.weight"].shape == (18, 8, 3, 3)


@pytest.mark.parametrize("size", [(2, 2), (1, 3), (1, 1)])
def test_maps_smaller_than_the_window_work(size: tuple[int, int]) -> None:
    net = sac(use_deform=True)
    assert net(torch.randn(2, 8, *size)).shape == (2, 12, *size)
    x = torch.full((1, 1, *size), 2.0)
    assert torch.equal(_reflected(x, 2), F.pad(x, (2, 2, 2, 2), value=2.0))
    line = torch.arange(2.0).view(1, 1, 1, 2)
    assert _reflected(line, 2)[0, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_gradients_are_right() -> None:
    net, x = sac(use_deform=True).double(), torch.randn(1, 8, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, *net.parameters()), fast_mode=True)


@pytest.mark.slow
@dynamic_export
def test_it_compiles_whole_and_exports_for_any_size() -> None:
    x, larger = torch.randn(2, 8, 9, 7).double(), torch.randn(3, 8, 12, 21).double()
    compiles_trains_and_exports(sac(use_deform=True, stride=2).double(), x, larger)


@pytest.mark.parametrize("padding", [0, 2])
def test_a_padding_that_does_not_keep_the_size_is_refused(padding: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"padding: SAConv2d: must be dilation · \(kernel_size - 1\) / 2.*got {padding}"
    ):
        build_conv_layer(dict(type="SAC"), 8, 12, 3, padding=padding)
