"""ECA is timm's `eca`."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch

from backbone_kit import ConfigError
from backbone_kit.layers import ECA, build_plugin_layer


@pytest.mark.parametrize("channels", [1, 3, 8, 64, 96, 127, 128, 256, 512, 1024, 2048, 3000])
@pytest.mark.parametrize("options", [{}, {"gamma": 1.0, "beta": 2.5}])
def test_the_kernel_and_the_map_are_timms_at_every_width(channels: int, options: dict[str, Any]) -> None:
    peer = timm.layers.EcaModule(channels, **options)
    name, net = build_plugin_layer({"type": "eca", **options}, in_channels=channels)
    net.load_state_dict(peer.state_dict())
    x = torch.randn(2, channels, 5, 3)
    torch.testing.assert_close(net(x), peer(x))
    assert name == "eca"


def test_a_given_kernel_is_timms_without_channels() -> None:
    peer = timm.layers.EcaModule(kernel_size=9, gate_layer="hard_sigmoid")
    net = ECA(64, kernel_size=9, gate_cfg=dict(type="Hardsigmoid"))
    net.load_state_dict(peer.state_dict())
    x = torch.randn(2, 64, 5, 3) * 4
    torch.testing.assert_close(net(x), peer(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(kernel_size=4), "kernel_size: ECA: must be odd and positive, got 4"),
        (dict(kernel_size=-1), "kernel_size: ECA: must be odd and positive, got -1"),
        (dict(gamma=0), "gamma: ECA: must be positive, got 0"),
        (dict(gate_cfg=dict(type="Sigmod")), r"gate_cfg\.type: .*did you mean 'Sigmoid'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer({"type": "ECA", **arguments}, in_channels=16)
    with pytest.raises(ConfigError, match=message.replace("ECA: ", "")):
        ECA(16, **arguments)
