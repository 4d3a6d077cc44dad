"""The non-local block is the sum over pairs of pixels of its paper, computed here pair by pair."""

import math
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.layers import NonLocal2d, build_plugin_layer
from backbone_kit.layers.non_local import Mode

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

MODES = get_args(Mode)


def block(**arguments: Any) -> NonLocal2d:
    """A block in float64 in which nothing is zero."""
    torch.manual_seed(0)
    built = NonLocal2d(6, **arguments).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built


def embedded(layer: Any, x: Tensor, pooled: bool = False) -> Tensor:
    """The pixels of one image through a 1x1 convolution, shape (pixels, channels)."""
    conv = (layer[0] if pooled else layer).conv
    out = torch.einsum("oc,chw->ohw", conv.weight.flatten(1), x) + conv.bias.view(-1, 1, 1)
    return (F.max_pool2d(out, 2) if pooled else out).flatten(1).T


@pytest.mark.parametrize("sub_sample", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_papers_sum_over_pairs(mode: Mode, sub_sample: bool) -> None:
    net, x = block(mode=mode, sub_sample=sub_sample), torch.randn(2, 6, 4, 5).double()
    expected = []
    for image in x:
        values = embedded(net.g, image, sub_sample)
        if mode == "gaussian":
            queries, keys = image.flatten(1).T, (F.max_pool2d(image, 2) if sub_sample else image).flatten(1).T
        else:
            queries, keys = embedded(net.theta, image), embedded(net.phi, image, sub_sample)
        sums = []
        for query in queries:
            if mode == "concatenation":
                weight = net.concat_project.conv.weight.flatten()
                affinity = torch.stack([(weight @ torch.cat((query, key))).clamp(min=0) for key in keys]) / len(keys)
            elif mode == "dot_product":
                affinity = torch.stack([query @ key for key in keys]) / len(keys)
            else:
                scale = math.sqrt(3) if mode == "embedded_gaussian" else 1
                exponentials = torch.stack([(query @ key / scale).exp() for key in keys])
                affinity = exponentials / exponentials.sum()
            sums.append(sum(factor * value for factor, value in zip(affinity, values, strict=True)))
        out = net.conv_out.conv.weight.flatten(1) @ torch.stack(sums).T + net.conv_out.conv.bias.unsqueeze(1)
        expected.append(image + out.view_as(image))
    torch.testing.assert_close(net(x), torch.stack(expected))
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), torch.stack(expected))


def test_without_scale_the_affinity_is_the_bare_exponential() -> None:
    scaled, bare = block(), block(use_scale=False)
    x = torch.randn(1, 6, 3, 3).double()
    assert not torch.allclose(scaled(x), bare(x))
    with torch.no_grad():
        bare.theta.conv.weight /= math.sqrt(3)
        bare.theta.conv.bias /= math.sqrt(3)
    torch.testing.assert_close(scaled(x), bare(x))


@pytest.mark.parametrize("norm_cfg", [None, dict(type="BN"), dict(type="IN")])
def test_it_starts_as_the_identity_and_again_after_init_weights(norm_cfg: dict[str, Any] | None) -> None:
    x = torch.randn(2, 6, 4, 5)
    net = NonLocal2d(6, norm_cfg=norm_cfg)
    torch.testing.assert_close(net(x), x)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    net.init_weights()
    torch.testing.assert_close(net(x), x)


def test_std_is_that_of_the_weights() -> None:
    net = NonLocal2d(256, zeros_init=False, std=0.03)
    for layer in (net.g, net.theta, net.phi, net.conv_out):
        assert layer.conv.weight.std().item() == pytest.approx(0.03, rel=0.03)
        assert layer.conv.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (dict(), "g.conv conv_out.conv theta.conv phi.conv"),
        (dict(norm_cfg=dict(type="BN")), "g.conv conv_out.conv conv_out.bn theta.conv phi.conv"),
        (dict(sub_sample=True), "g.0.conv conv_out.conv theta.conv phi.0.conv"),
        (dict(mode="gaussian", sub_sample=True), "g.0.conv conv_out.conv"),
        (dict(mode="concatenation"), "g.conv conv_out.conv theta.conv phi.conv concat_project.conv"),
    ],
)
def test_it_has_mmdets_name_and_keys(arguments: dict[str, Any], keys: str) -> None:
    name, net = build_plugin_layer(dict(type="NonLocal2d", **arguments), in_channels=8)
    assert name == "nonlocal_block"
    assert list(dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict())) == keys.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(mode="gausian"), "mode: must be .* got 'gausian'; did you mean 'gaussian'"),
        (dict(reduction=9), r"reduction: NonLocal2d: must be from 1 to in_channels \(=8\), got 9"),
        (dict(norm_cfg=dict(type="BM")), "norm_cfg.type: unknown norm layer 'BM'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(dict(type="NonLocal2d", **arguments), in_channels=8)
    with pytest.raises(ConfigError):
        NonLocal2d(8, **arguments)


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize("mode", MODES)
def test_it_compiles_whole_trains_and_exports_for_any_size(mode: Mode) -> None:
    net = block(mode=mode, sub_sample=mode in ("dot_product", "gaussian"))
    compiles_trains_and_exports(net, torch.randn(2, 6, 4, 5).double(), torch.randn(3, 6, 7, 9).double())
