"""SelectiveKernel is timm's, as its sknet.py uses it."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.layers import SelectiveKernel, build_plugin_layer


def pair(in_channels: int, **options: Any) -> tuple[SelectiveKernel, nn.Module]:
    """Ours and timm's, with the same weights."""
    sizes = options.get("kernel_size")
    peer = timm.layers.SelectiveKernel(in_channels, **{**options, **({"kernel_size": list(sizes)} if sizes else {})})
    for parameter in peer.parameters():
        nn.init.normal_(parameter, std=0.5)
    net = SelectiveKernel(in_channels, **options)
    assert list(net.state_dict()) == list(peer.state_dict())
    net.load_state_dict(peer.state_dict())
    return net, peer


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    net(x).square().mean().backward()
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"out_channels": 48, "stride": 2, "rd_ratio": 1 / 8, "rd_divisor": 16},  # skresnet18
        {"groups": 8, "split_input": False, "rd_ratio": 1 / 16, "rd_divisor": 32},  # skresnext50
        {"keep_3x3": False, "dilation": 2},
        {"kernel_size": (3, 5, 7, 3), "rd_channels": 5},
        {"kernel_size": (5,), "stride": 2, "dilation": 2, "split_input": False},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_it_is_timms(options: dict[str, Any], training: bool) -> None:
    net, peer = pair(32, **options)
    x = torch.randn(2, 32, 11, 8)
    torch.testing.assert_close(net.train(training)(x), peer.train(training)(x), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients(net, x), gradients(peer, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_types_of_convolution_norm_and_activation() -> None:
    net = SelectiveKernel(
        16, conv_cfg=dict(type="ConvWS"), norm_cfg=dict(type="GN", num_groups=4), act_cfg=dict(type="SiLU")
    )
    kinds = {type(module).__name__ for module in net.modules()}
    assert {"ConvWS2d", "GroupNorm", "SiLU"} <= kinds
    assert not {"BatchNorm2d", "ReLU"} & kinds
    net.train()(torch.randn(1, 16, 5, 5)).sum().backward()  # a single picture, which a BatchNorm refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(kernel_size=(3, 4)), r"kernel_size\[1\]: SelectiveKernel: must be odd, and 3 or more, got 4"),
        (dict(kernel_size=()), "kernel_size: SelectiveKernel: must have one size a path"),
        (dict(kernel_size=5), "kernel_size: must be a list"),
        (dict(kernel_size=(3, 5, 7)), r"split_input: .*in_channels \(=16\) .* number of paths \(=3\); set it to False"),
        (dict(rd_ratio=0), "rd_ratio: SelectiveKernel: must be positive"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer({"type": "sk", **arguments}, in_channels=16)
