"""ResNetV2 computes what timm's computes, under timm's keys."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError, build_backbone, list_backbones
from backbone_kit.backbones import Backbone
from backbone_kit.backbones.resnetv2 import PreActBlock, ResNetV2
from backbone_kit.layers import StdConv2d

from .test_peers import randomized, relative_difference

NAMES = list_backbones("resnetv2_*")
FAST = ("resnetv2_18", "resnetv2_18d", "resnetv2_50t")
COMPARED = (
    *("resnetv2_18", "resnetv2_18d", "resnetv2_34d", "resnetv2_50", "resnetv2_50d", "resnetv2_50t", "resnetv2_50d_gn"),
    *("resnetv2_50d_evos", "resnetv2_50d_frn", "resnetv2_50x1_bit"),
)


def tiny(**arguments: Any) -> ResNetV2:
    return ResNetV2(**{"layers": (1, 2), "channels": (32, 64), "stem_channels": 8, **arguments})


def scattered(peer: nn.Module) -> nn.Module:
    """Norms off their start, those that are no BatchNorm too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in peer.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.0, generator=generator)
    return randomized(peer)


def weights_of(peer: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in peer.state_dict().items() if not key.startswith("head.")}


def test_the_names_are_timms() -> None:
    assert set(timm.list_models("resnetv2_*")) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_timms_keys(name: str) -> None:
    with torch.device("meta"):
        peer, net = timm.create_model(name), build_backbone(name)
    assert {k: v.shape for k, v in weights_of(peer).items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert [(info["num_chs"], info["reduction"]) for info in peer.feature_info] == [
        (info.channels, info.stride) for info in net.feature_info
    ]


def compared(net: Backbone, peer: nn.Module, *size: int) -> float:
    net.load_state_dict(weights_of(peer))
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    last, levels = peer.forward_intermediates(x, norm=True)  # type: ignore[operator]
    assert torch.equal(last, levels[-1])
    return relative_difference(tuple(net.eval().forward_intermediates(x).values()), levels)


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in COMPARED])
@torch.no_grad()
def test_every_level_is_timms(name: str) -> None:
    assert compared(build_backbone(name), scattered(timm.create_model(name)), 65, 97) < 1e-5


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_18d", pytest.param("resnetv2_50d", marks=pytest.mark.slow)])
@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_output_stride_is_timms(name: str, output_stride: int) -> None:
    net = build_backbone(name, output_stride=output_stride)
    assert compared(net, scattered(timm.create_model(name, output_stride=output_stride)), 64, 96) < 1e-5
    assert net.out_strides[-1] == output_stride


@torch.no_grad()
def test_a_fixed_deep_stem_is_timms() -> None:
    arguments: dict[str, Any] = {"layers": (1, 1), "channels": (64, 128), "stem_type": "deep_fixed"}
    peer = timm.models.resnetv2.ResNetV2(**arguments, stem_chs=32, width_factor=2)
    convs = {"conv_cfg": {"type": "StdConv"}, "norm_cfg": {"type": "GN", "num_groups": 32}}
    assert compared(ResNetV2(**arguments, **convs, stem_channels=32, width_factor=2), scattered(peer), 41, 54) < 1e-5


def test_the_closing_norm_is_on_the_way_out_of_the_last_stage() -> None:
    net = tiny().eval()
    nn.init.constant_(net.norm.bias, 3.0)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first, last = net(x)
        torch.testing.assert_close(first, net.stages[0](net.stem(x)))
        torch.testing.assert_close(last, net.norm(net.stages[1](first)).relu())
    assert not hasattr(tiny(out_indices=(0,), prune_stages=True), "norm")
    frozen = tiny(frozen_stages=2)
    assert not any(parameter.requires_grad for parameter in frozen.norm.parameters())


def test_recomputed_blocks_give_the_same_gradients_and_statistics() -> None:
    plain, recomputed = tiny(), tiny(with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for net in (plain, recomputed):
        sum(out.square().mean() for out in net.train()(x)).backward()
    for a, b in zip(plain.parameters(), recomputed.parameters()):
        torch.testing.assert_close(a.grad, b.grad)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(recomputed.state_dict()[key], value)


def test_drop_path_grows_as_timms() -> None:
    nets = [build("resnetv2_18", drop_path_rate=0.2) for build in (build_backbone, timm.create_model)]
    blocks = [[block for stage in net.stages for block in stage.blocks] for net in nets]
    ours, theirs = ([getattr(block.drop_path, "drop_prob", 0.0) for block in each] for each in blocks)
    assert ours == pytest.approx(theirs)
    assert max(ours) == pytest.approx(0.2)


def test_layers_are_those_of_the_config() -> None:
    net = build_backbone("resnetv2_50x1_bit", out_indices=(0,), prune_stages=True, act_cfg={"type": "SiLU"})
    assert [m.eps for m in net.modules() if isinstance(m, nn.Conv2d)] == [1e-8] * 11
    assert all(isinstance(m, StdConv2d) for m in net.modules() if isinstance(m, nn.Conv2d))
    acts = {type(block.act) for block in net.modules() if isinstance(block, PreActBlock)}
    assert acts == {nn.SiLU}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": (2, 2)}, r"layers: needs one number a stage, as channels=\(256, 512, 1024, 2048\), got \(2, 2\)"),
        ({"layers": (2, 2, 0, 2)}, r"layers\[2\]: must be 1 or more, got 0"),
        ({"layers": (2, 2, 2, 2), "width_factor": 0}, r"width_factor: must be positive, got 0"),
        ({"layers": (2, 2, 2, 2), "bottle_ratio": -0.5}, r"bottle_ratio: must be positive, got -0.5"),
        ({"layers": (2, 2, 2, 2), "stem_type": "deeep"}, r"stem_type: must be .* did you mean 'deep'"),
        (
            {"layers": (2, 2, 2, 2), "stem_type": "tiered", "stem_channels": 4},
            r"stem_channels: must be 8 or more, got 4",
        ),
        ({"layers": (2, 2, 2, 2), "output_stride": 4}, r"output_stride: must be 8 or 16 or 32, got 4"),
        ({"layers": (2, 2, 2, 2), "drop_path_rate": 1}, r"drop_path_rate: must be from 0 to less than 1, got 1"),
    ],
)
def test_what_cannot_be_built_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResNetV2(**arguments)
