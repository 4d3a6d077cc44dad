"""The context block is GCNet's formula, computed here image by image."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.layers import ContextBlock, build_plugin_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports


def block(**arguments: Any) -> ContextBlock:
    """A block in float64 in which nothing is zero."""
    torch.manual_seed(0)
    built = ContextBlock(6, **{"ratio": 0.5, **arguments}).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built


def bottleneck(layers: nn.Sequential, context: Tensor) -> Tensor:
    """1x1, norm over channels, ReLU, 1x1 of one vector."""
    first, norm, _, last = layers
    hidden = first.weight.flatten(1) @ context + first.bias
    variance = ((hidden - hidden.mean()) ** 2).mean()
    hidden = (hidden - hidden.mean()) / (variance + 1e-5).sqrt() * norm.weight.flatten() + norm.bias.flatten()
    return last.weight.flatten(1) @ hidden.clamp(min=0) + last.bias


@pytest.mark.parametrize("fusion_types", [("channel_add",), ["channel_mul"], ("channel_add", "channel_mul")])
@pytest.mark.parametrize("pooling_type", ["att", "avg"])
def test_it_is_the_papers_formula(pooling_type: str, fusion_types: Any) -> None:
    net, x = block(pooling_type=pooling_type, fusion_types=fusion_types), torch.randn(3, 6, 4, 5).double()
    expected = []
    for image in x:
        pixels = image.flatten(1)
        energy = torch.zeros(20).double()
        if pooling_type == "att":
            energy = net.conv_mask.weight.flatten() @ pixels + net.conv_mask.bias
        context = (pixels * energy.exp()).sum(1) / energy.exp().sum()
        out = pixels
        if "channel_mul" in fusion_types:
            out = out / (1 + (-bottleneck(net.channel_mul_conv, context)).exp()).unsqueeze(1)
        if "channel_add" in fusion_types:
            out = out + bottleneck(net.channel_add_conv, context).unsqueeze(1)
        expected.append(out.view_as(image))
    torch.testing.assert_close(net(x), torch.stack(expected))
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), torch.stack(expected))


def test_it_starts_as_the_identity_and_again_after_init_weights() -> None:
    x = torch.randn(2, 6, 4, 5)
    net = ContextBlock(6, ratio=0.5)
    torch.testing.assert_close(net(x), x)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    net.init_weights()
    torch.testing.assert_close(net(x), x)


def test_it_has_mmdets_name_and_keys() -> None:
    name, net = build_plugin_layer(dict(type="ContextBlock", ratio=1 / 4, postfix="_a"), in_channels=8)
    assert name == "context_block_a"
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == {
        "conv_mask.weight": [1, 8, 1, 1],
        "conv_mask.bias": [1],
        "channel_add_conv.0.weight": [2, 8, 1, 1],
        "channel_add_conv.0.bias": [2],
        "channel_add_conv.1.weight": [2, 1, 1],
        "channel_add_conv.1.bias": [2, 1, 1],
        "channel_add_conv.3.weight": [8, 2, 1, 1],
        "channel_add_conv.3.bias": [8],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(), "'ratio' is missing"),
        (dict(ratio=1 / 16), r"ratio: ContextBlock: must leave 1 of in_channels \(=8\) at least, got 0.0625"),
        (dict(ratio=0.5, pooling_type="max"), "pooling_type: must be 'att' or 'avg', got 'max'"),
        (dict(ratio=0.5, fusion_types=["channels_add"]), r"fusion_types\[0\]: must be .*; did you mean 'channel_add'"),
        (
            dict(ratio=0.5, fusion_types=[]),
            "fusion_types: .* must have 'channel_add', 'channel_mul' or both",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(dict(type="ContextBlock", **arguments), in_channels=8)


@dynamic_export
@pytest.mark.parametrize("pooling_type", ["att", "avg"])
def test_it_compiles_whole_trains_and_exports_for_any_size(pooling_type: str) -> None:
    net = block(pooling_type=pooling_type, fusion_types=("channel_add", "channel_mul"))
    compiles_trains_and_exports(net, torch.randn(2, 6, 4, 5).double(), torch.randn(3, 6, 7, 9).double())
