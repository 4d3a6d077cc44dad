"""SELayer is timm's `se`, by its own and by timm's arguments, with MMPretrain's and MMDetection's widths."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit import ConfigError
from backbone_kit.layers import SELayer, build_plugin_layer
from backbone_kit.layers.channels import make_divisible

PEER_KEYS = {"conv1.conv": "fc1", "conv2.conv": "fc2"}


def from_peer(net: SELayer, peer: nn.Module) -> SELayer:
    """With the peer's weights; every key has its counterpart."""
    state = {
        f"{ours}.{kind}": peer.state_dict()[f"{its}.{kind}"]
        for ours, its in PEER_KEYS.items()
        for kind in ("weight", "bias")
    }
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("channels", [8, 24, 64, 200, 288, 2048])
@pytest.mark.parametrize("options", [{}, {"rd_ratio": 0.25}, {"rd_divisor": 1}, {"rd_channels": 5}])
def test_se_is_timms_at_every_width(channels: int, options: dict[str, Any]) -> None:
    peer = timm.layers.create_attn("se", channels, **options)
    _, net = build_plugin_layer({"type": "se", **options}, in_channels=channels)
    x = torch.randn(2, channels, 5, 3)
    torch.testing.assert_close(from_peer(net, peer)(x), peer(x))


def test_an_se_layer_with_the_width_between_and_a_hard_gate_is_timms_too() -> None:
    peer = timm.layers.SqueezeExcite(32, rd_channels=12, act_layer=nn.SiLU, gate_layer="hard_sigmoid")
    net = SELayer(32, 12, act_cfg=(dict(type="SiLU"), dict(type="Hardsigmoid")))
    x = torch.randn(2, 32, 5, 3) * 4
    torch.testing.assert_close(from_peer(net, peer)(x), peer(x))


@pytest.mark.parametrize("value", [0.3, 1, 7, 8.5, 11, 12, 18, 20, 100, 127.9])
@pytest.mark.parametrize("divisor", [1, 4, 8, 16])
@pytest.mark.parametrize("round_limit", [0, 0.9])
def test_rounding_is_timms(value: float, divisor: int, round_limit: float) -> None:
    peer = timm.layers.make_divisible(value, divisor, round_limit=round_limit)
    assert make_divisible(value, divisor, round_limit) == peer


@pytest.mark.parametrize(
    ("channels", "options", "between"),
    [
        (256, {}, 16),
        (64, {}, 8),  # 4, up to the divisor
        (288, {}, 24),  # 18: 16 would be more than a tenth less
        (288, {"divisor": 1}, 18),  # as MMDetection counts
        (100, {"ratio": 3, "divisor": 1}, 33),
        (100, {"squeeze_channels": 7, "ratio": 3}, 7),
    ],
)
def test_the_channels_between_and_the_keys(channels: int, options: dict[str, Any], between: int) -> None:
    name, net = build_plugin_layer({"type": "SELayer", **options}, in_channels=channels)
    assert name == "se_layer"
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == {
        "conv1.conv.weight": (between, channels, 1, 1),
        "conv1.conv.bias": (between,),
        "conv2.conv.weight": (channels, between, 1, 1),
        "conv2.conv.bias": (channels,),
    }


def test_one_activation_stands_for_both_and_convolutions_may_have_a_type() -> None:
    net = SELayer(16, act_cfg=dict(type="Tanh"), conv_cfg=dict(type="ConvWS"), bias=False)
    assert isinstance(net.conv1.activate, nn.Tanh)
    assert isinstance(net.conv2.activate, nn.Tanh)
    x = torch.randn(2, 16, 3, 3)
    weights = [conv.conv.standardized_weight().flatten(1) for conv in (net.conv1, net.conv2)]
    gates = torch.tanh(torch.tanh(x.mean((2, 3)) @ weights[0].T) @ weights[1].T)
    torch.testing.assert_close(net(x), x * gates[..., None, None])


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="SELayer", ratio=0), "ratio: SELayer: must be positive, got 0"),
        (dict(type="SELayer", divisor=0), "divisor: SELayer: must be positive, got 0"),
        (dict(type="SELayer", squeeze_channels=0), "squeeze_channels: SELayer: must be positive, got 0"),
        (dict(type="SELayer", act_cfg=[dict(type="ReLU")]), "act_cfg: SELayer: must be one config or two, .* got 1"),
        (
            dict(type="SELayer", act_cfg=[dict(type="ReLU"), dict(type="Sigmod")]),
            r"act_cfg\[1\].*did you mean 'Sigmoid'",
        ),
        (dict(type="se", rd_ratio=0), "rd_ratio: squeeze_excite: must be positive, got 0"),
        (dict(type="se", rd_channels=0), "rd_channels: squeeze_excite: must be positive, got 0"),
    ],
)
def test_arguments_that_cannot_work_are_refused(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(cfg, in_channels=16)
