"""Weight standardisation: mmcv's formulas in closed form, timm's layer, and plain checkpoints."""

from __future__ import annotations

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import nn

from backbone_kit.layers import ConvAWS2d, ConvWS2d, build_conv_layer

ALL = pytest.mark.parametrize("kind", ["ConvWS", "ConvAWS", "StdConv"])


def conv(kind: str, *args, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return build_conv_layer(dict(type=kind), *args, **kwargs).double()


def filterwise(weight: torch.Tensor, standard) -> torch.Tensor:
    """The formula for one flat filter, applied to each; statistics by their definitions."""
    result = []
    for one in weight.flatten(1):
        mean = one.sum() / one.numel()
        variance = ((one - mean) ** 2).sum() / (one.numel() - 1)
        result.append(standard(one, mean, variance))
    return torch.stack(result).view_as(weight)


def test_ws_is_the_papers_formula():
    layer, x = conv("ConvWS", 4, 6, 3, stride=2, padding=1, groups=2), torch.randn(2, 4, 9, 9).double()
    weight = filterwise(layer.weight, lambda w, mean, variance: (w - mean) / (variance.sqrt() + 1e-5))
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, layer.bias, stride=2, padding=1, groups=2))


def test_ws_equals_timm_up_to_its_biased_variance():
    layer, x = conv("ConvWS", 4, 6, 3), torch.randn(2, 4, 9, 9).double()
    peer = timm.layers.StdConv2d(4, 6, 3, padding=0, bias=True, eps=1e-12).double()
    peer.load_state_dict(layer.state_dict())
    layer.eps = 0.0
    with torch.no_grad():
        layer.bias.zero_()
        peer.bias.zero_()
    torch.testing.assert_close(layer(x) * (36 / 35) ** 0.5, peer(x))


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_std_equals_timm(eps):
    layer, x = conv("StdConv", 4, 6, 3, stride=2, padding=1, groups=2), torch.randn(2, 4, 9, 9).double()
    peer = timm.layers.StdConv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True, eps=eps).double()
    peer.load_state_dict(layer.state_dict())
    layer.eps = eps
    torch.testing.assert_close(layer(x), peer(x))
    assert not torch.equal(conv("ConvWS", 4, 6, 3)(x), conv("StdConv", 4, 6, 3)(x))


def test_aws_is_the_papers_formula():
    layer, x = conv("ConvAWS", 4, 6, 3, padding=1), torch.randn(2, 4, 9, 9).double()
    layer.weight_gamma.uniform_(1, 2)
    layer.weight_beta.normal_()
    standard = filterwise(layer.weight, lambda w, mean, variance: (w - mean) / (variance + 1e-5).sqrt())
    weight = layer.weight_gamma * standard + layer.weight_beta
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, layer.bias, padding=1))


def test_aws_keeps_the_function_of_a_plain_checkpoint():
    plain, x = conv("Conv2d", 4, 6, 3), torch.randn(2, 4, 9, 9).double()
    net = nn.Sequential(conv("ConvAWS", 4, 6, 3), nn.ReLU())
    state = {f"0.{key}": value for key, value in plain.state_dict().items()}
    assert net.load_state_dict(state, strict=True).missing_keys == []
    torch.testing.assert_close(net(x), plain(x).relu())
    assert set(state) == {"0.weight", "0.bias"}


def test_aws_keeps_the_function_of_a_plain_checkpoint_when_built_on_meta():
    plain, x = conv("Conv2d", 4, 6, 3), torch.randn(2, 4, 9, 9).double()
    with torch.device("meta"):
        layer = ConvAWS2d(4, 6, 3)
    layer.load_state_dict(plain.state_dict(), assign=True)
    torch.testing.assert_close(layer(x), plain(x))


def test_aws_loads_its_own_checkpoint_and_misses_half_of_one():
    source, target = conv("ConvAWS", 4, 6, 3), conv("ConvAWS", 4, 6, 3)
    source.weight_gamma.fill_(3)
    source.weight_beta.fill_(2)
    target.load_state_dict(source.state_dict())
    assert target.weight_gamma.unique() == 3
    assert target.weight_beta.unique() == 2
    half = {key: value for key, value in source.state_dict().items() if key != "weight_gamma"}
    assert target.load_state_dict(half, strict=False).missing_keys == ["weight_gamma"]


def test_aws_reports_a_plain_weight_of_another_shape():
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        conv("ConvAWS", 4, 6, 3).load_state_dict(conv("Conv2d", 4, 6, 1).state_dict())


@ALL
def test_keys_are_mmcvs(kind):
    keys = ["weight", "bias"] + (["weight_gamma", "weight_beta"] if kind == "ConvAWS" else [])
    assert list(conv(kind, 4, 6, 3).state_dict()) == keys


@ALL
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_padding_modes_are_real(kind, mode):
    layer, x = conv(kind, 4, 6, 3, padding=2, padding_mode=mode), torch.randn(2, 4, 9, 9).double()
    padded = F.pad(x, (2, 2, 2, 2), mode="constant" if mode == "zeros" else mode)
    torch.testing.assert_close(layer(x), F.conv2d(padded, layer.standardized_weight(), layer.bias))


@ALL
def test_device_and_dtype_reach_every_tensor(kind):
    layer = build_conv_layer(dict(type=kind), 4, 6, 3, device="meta", dtype=torch.float16)
    assert {(t.device.type, t.dtype) for t in layer.state_dict().values()} == {("meta", torch.float16)}


@ALL
def test_a_filter_of_one_weight_counts_as_standardised(kind):
    layer, x = conv(kind, 1, 5, 1, bias=False), torch.randn(2, 1, 4, 4).double()
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight), rtol=2e-5, atol=0)
    depthwise = conv(kind, 3, 3, 1, groups=3)
    assert depthwise(torch.randn(2, 3, 4, 4).double()).isfinite().all()


def test_aws_keeps_the_function_of_a_plain_checkpoint_with_filters_of_one_weight():
    plain, layer, x = conv("Conv2d", 1, 5, 1), conv("ConvAWS", 1, 5, 1), torch.randn(2, 1, 4, 4).double()
    layer.load_state_dict(plain.state_dict())
    torch.testing.assert_close(layer(x), plain(x))


@ALL
def test_gradients(kind):
    layer, x = conv(kind, 2, 3, 3), torch.randn(1, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.weight, layer.bias))


@ALL
def test_a_filter_without_spread_gives_finite_gradients(kind):
    layer = conv(kind, 2, 3, 3)
    nn.init.ones_(layer.weight)
    layer(torch.randn(1, 2, 4, 4).double()).sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_eps_is_an_argument():
    assert build_conv_layer(dict(type="ConvWS", eps=1e-3), 4, 6, 3).eps == 1e-3
    assert ConvWS2d(4, 6, 3).eps == 1e-5
    assert build_conv_layer(dict(type="StdConv", eps=1e-8), 4, 6, 3).eps == 1e-8
