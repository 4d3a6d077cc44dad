"""Global response normalisation: timm's layer, the paper's algorithm channel by channel, gradients."""

from __future__ import annotations

import pytest
import timm.layers.grn
import torch
from torch import nn

from backbone_kit.layers import GRN, build_plugin_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports


def layer() -> GRN:
    net = GRN(5).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_papers_algorithm_and_timms_layer(memory_format: torch.memory_format) -> None:
    net, x = layer(), torch.randn(3, 5, 4, 6).double().contiguous(memory_format=memory_format)
    expected = torch.empty_like(x)
    for image, out in zip(x, expected):
        strengths = [float((channel**2).sum()) ** 0.5 for channel in image]
        mean = sum(strengths) / len(strengths)
        for i, strength in enumerate(strengths):
            out[i] = net.gamma[i].detach() * (image[i] * (strength / (mean + 1e-6))) + net.beta[i].detach() + image[i]
    torch.testing.assert_close(net(x), expected)
    assert net(x).is_contiguous(memory_format=memory_format)

    peer = timm.layers.grn.GlobalResponseNorm(5, channels_last=False).double()
    peer.load_state_dict({"weight": net.gamma, "bias": net.beta})
    torch.testing.assert_close(net(x), peer(x))


def test_it_starts_as_the_identity_and_again_after_reset_parameters() -> None:
    x, net = torch.randn(2, 5, 3, 3), GRN(5)
    torch.testing.assert_close(net(x), x)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    net.reset_parameters()
    torch.testing.assert_close(net(x), x)


def test_it_is_a_plugin_of_the_blocks_width() -> None:
    name, net = build_plugin_layer({"type": "GRN", "eps": 1e-3}, in_channels=7)
    assert (name, net.eps, list(net.state_dict()), net.gamma.shape) == ("grn", 1e-3, ["gamma", "beta"], (7,))


def test_half_precision_keeps_its_range() -> None:
    net, x = layer().half(), torch.full((1, 5, 64, 64), 2000.0).half()  # the norm, 128,000, is beyond half's 65,504
    assert net(x).dtype == torch.float16
    torch.testing.assert_close(net(x), net.float()(x.float()).half())


def test_gradients() -> None:
    net, x = layer(), torch.randn(2, 5, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, net.gamma, net.beta))


def test_an_empty_map_gives_finite_gradients() -> None:
    x = torch.zeros(1, 5, 2, 2).double().requires_grad_()
    layer()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@dynamic_export
def test_it_compiles_whole_trains_and_exports_for_any_size() -> None:
    compiles_trains_and_exports(layer(), torch.randn(2, 5, 4, 6).double(), torch.randn(3, 5, 7, 9).double())
