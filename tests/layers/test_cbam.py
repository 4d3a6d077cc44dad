"""CBAM is timm's `cbam`."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit import ConfigError
from backbone_kit.layers import CBAM, build_plugin_layer


@pytest.mark.parametrize("channels", [8, 64, 200])
@pytest.mark.parametrize(
    "options",
    [{}, {"rd_ratio": 0.25, "rd_divisor": 8}, {"rd_channels": 5, "mlp_bias": True}, {"spatial_kernel_size": 3}],
)
@pytest.mark.parametrize("training", [False, True])
def test_it_is_timms(channels: int, options: dict[str, Any], training: bool) -> None:
    peer = timm.layers.create_attn("cbam", channels, **options).train(training)
    for parameter in peer.parameters():
        nn.init.normal_(parameter)
    name, net = build_plugin_layer({"type": "cbam", **options}, in_channels=channels)
    assert list(net.state_dict()) == list(peer.state_dict())
    net.load_state_dict(peer.state_dict())
    x = torch.randn(2, channels, 9, 8)
    torch.testing.assert_close(net.train(training)(x), peer(x))
    assert name == "cbam"


def test_activation_gates_and_norm_may_have_a_type() -> None:
    options = dict(act_layer=nn.SiLU, gate_layer="hard_sigmoid")
    peer = timm.layers.create_attn("cbam", 16, **options).eval()
    net = CBAM(16, act_cfg=dict(type="SiLU"), gate_cfg=dict(type="Hardsigmoid")).eval()
    net.load_state_dict(peer.state_dict())
    x = torch.randn(2, 16, 9, 8) * 4
    torch.testing.assert_close(net(x), peer(x))
    assert isinstance(CBAM(16, norm_cfg=dict(type="GN", num_groups=1)).spatial.conv.norm, nn.GroupNorm)
    assert CBAM(16, norm_cfg=None).spatial.conv.norm is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(spatial_kernel_size=4), "spatial_kernel_size: CBAM: must be odd and positive, got 4"),
        (dict(rd_ratio=-1), "rd_ratio: CBAM: must be positive, got -1"),
        (dict(rd_divisor=0), "rd_divisor: CBAM: must be positive, got 0"),
        (dict(norm_cfg=dict(type="BM")), r"norm_cfg\.type: unknown norm layer 'BM'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer({"type": "CBAM", **arguments}, in_channels=16)
