"""RegNet computes what MMDetection's, mmpretrain's, timm's and torchvision's compute; its numbers are the paper's."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import BACKBONES, ConfigError, build_backbone, build_from_cfg, from_openmmlab, list_backbones
from backbone_kit.backbones import ResNet
from backbone_kit.backbones.regnet import ARCHS, RegNet, stages_of
from backbone_kit.layers import SELayer

from ..golden import cases, difference, fill, picture
from .test_peers import randomized, relative_difference

CASES = cases("openmmlab_regnet")
FAST = ("regnetx_400mf", "regnetx_800mf")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case['source']}-{case['cfg']['arch']}{'-dcn' if 'dcn' in case['cfg'] else ''}",
            marks=() if case["cfg"]["arch"] in FAST else pytest.mark.slow,
        )
        for case in CASES
    ],
)
def test_equal_to_openmmlab(case: dict[str, Any]) -> None:
    net = build_from_cfg(from_openmmlab(case["cfg"], case["source"]), BACKBONES)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == case["keys"]
    assert list(net.state_dict()) == list(case["keys"])
    assert sum(p.numel() for p in net.parameters()) == case["n_params"]
    assert sorted(n for n, p in net.named_parameters() if not p.requires_grad) == case["frozen_params"]
    training = [name for name, m in net.train().named_modules() if isinstance(m, _BatchNorm) and m.training]
    assert sorted(training) == sorted(case["batchnorms_in_train_mode"])

    fill(net)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    assert max(map(difference, outputs, case["outputs"])) < 1e-4


# timm and torchvision

TIMM = [name for name in list_backbones("regnet[xy]_*") if timm.is_model(name)]


def renamed(state: dict[str, Tensor], patterns: list[tuple[str, str]]) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        for pattern, ours in patterns:
            key = re.sub(pattern, ours, key)
        if not key.startswith(("head.", "fc.")):
            found[key] = value
    return found


def of_timm(peer: nn.Module) -> dict[str, Tensor]:
    patterns = [
        (r"^stem\.conv\.", "conv1."),
        (r"^stem\.bn\.", "bn1."),
        (r"\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.conv(\d)\.bn\.", r".bn\1."),
        (r"\.downsample\.conv\.", ".downsample.0."),
        (r"\.downsample\.bn\.", ".downsample.1."),
        (r"\.se\.fc(\d)\.", r".se_layer.conv\1.conv."),
    ]
    numbered = {_from_zero(r"^s(\d)\.b(\d+)\.", key): value for key, value in peer.state_dict().items()}
    return renamed(numbered, patterns)


def of_torchvision(peer: nn.Module) -> dict[str, Tensor]:
    patterns = [
        (r"^stem\.0\.", "conv1."),
        (r"^stem\.1\.", "bn1."),
        (r"\.proj\.(\d)\.", r".downsample.\1."),
        *((rf"\.f\.{letter}\.0\.", f".conv{i}.") for i, letter in enumerate("abc", 1)),
        *((rf"\.f\.{letter}\.1\.", f".bn{i}.") for i, letter in enumerate("abc", 1)),
        (r"\.f\.se\.fc(\d)\.", r".se_layer.conv\1.conv."),
    ]
    blocks = r"^trunk_output\.block(\d)\.block\d-(\d+)\."
    return renamed({_from_zero(blocks, key): value for key, value in peer.state_dict().items()}, patterns)


def _from_zero(pattern: str, key: str) -> str:
    """A block's place in a key as ours: 'layer2.0.'; torchvision counts from 0, timm from 1."""
    offset = 0 if "trunk" in pattern else 1
    return re.sub(pattern, lambda found: f"layer{found[1]}.{int(found[2]) - offset}.", key)


def groups(net: nn.Module) -> list[int]:
    return [m.groups for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


def test_the_names_are_timms() -> None:
    left_out = {"regnety_040_sgn"}  # its groups of 16 channels are more groups the wider the map
    assert set(TIMM) == {*timm.list_models("regnetx_*"), *timm.list_models("regnety_*")} - left_out


@pytest.mark.parametrize("name", TIMM)
def test_every_name_has_timms_weights(name: str) -> None:
    with torch.device("meta"):
        peer, net = timm.create_model(name), build_backbone(name)
    theirs, ours = of_timm(peer), net.state_dict()
    assert {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in ours.items()}
    groups = [
        [m.groups for m in n.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)] for n in (peer, net)
    ]
    assert groups[0] == groups[1]


@pytest.mark.parametrize("name", ["regnetx_002", "regnety_002", "regnety_008_tv", "regnetx_006"])
@torch.no_grad()
def test_a_timm_name_is_timms_net(name: str) -> None:
    peer, net = randomized(timm.create_model(name)), build_backbone(name).eval()
    net.load_state_dict(of_timm(peer))
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    levels = peer.forward_intermediates(x, intermediates_only=True)
    assert relative_difference(tuple(net.forward_intermediates(x).values()), levels) < 1e-5
    assert torch.equal(levels[-1], peer.forward_features(x))


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("regnet_x_400mf", "regnetx_004_tv"),
        ("regnet_x_1_6gf", "regnetx_016"),
        ("regnet_y_800mf", "regnety_008_tv"),
        pytest.param("regnet_y_8gf", "regnety_080_tv", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_a_torchvision_net_has_timms_name(theirs: str, name: str) -> None:
    peer, net = randomized(getattr(torchvision.models, theirs)(weights=None)), build_backbone(name).eval()
    net.load_state_dict(of_torchvision(peer))
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    stages = {f"block{i}": str(i) for i in range(1, 5)}
    levels = torchvision.models._utils.IntermediateLayerGetter(peer.trunk_output, stages)(peer.stem(x))
    assert relative_difference(net(x), list(levels.values())) < 1e-5


# What follows from the numbers

numbers = st.fixed_dictionaries(
    {
        "w0": st.integers(1, 40).map(lambda i: 8 * i),
        "wa": st.floats(8, 120),
        "wm": st.floats(1.5, 3),
        "group_w": st.integers(1, 128),
        "depth": st.integers(1, 30),
        "bot_mul": st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    }
)


@given(numbers)
def test_any_numbers_give_timms_widths(arch: Any) -> None:
    """timm's generator, which works in float32 and so may cut a line at another block where a step is a tie."""
    from timm.models.regnet import adjust_widths_groups_comp, generate_regnet

    stages = stages_of(arch)
    widths, count, groups = generate_regnet(arch["wa"], arch["w0"], arch["wm"], arch["depth"], arch["group_w"])
    distinct = sorted(set(widths))
    planes, sizes = adjust_widths_groups_comp(distinct, [arch["bot_mul"]] * count, groups)
    assume([stage.blocks for stage in stages] == [widths.count(width) for width in distinct])
    assert [stage.planes for stage in stages] == planes
    assert [stage.width // stage.groups for stage in stages] == sizes
    assert sum(stage.blocks for stage in stages) == arch["depth"]
    assert all(stage.width % stage.groups == 0 for stage in stages)


def test_a_net_of_another_number_of_stages_can_be_built() -> None:
    net = RegNet({"w0": 8, "wa": 8.0, "wm": 2.0, "group_w": 8, "depth": 4})
    assert [stage.planes for stage in stages_of({"w0": 8, "wa": 8.0, "wm": 2.0, "group_w": 8, "depth": 4})] == [
        8,
        16,
        32,
    ]
    assert (net.out_channels, net.out_strides) == ((8, 16, 32), (4, 8, 16))


def test_a_refused_net_leaves_no_trace_in_others() -> None:
    before = [key for key, _ in ResNet(50, base_channels=8).named_parameters()], ResNet(50).out_channels
    with pytest.raises(ConfigError, match="stage_with_dcn"):
        RegNet("regnetx_400mf", dcn={"type": "DCN"})
    assert ([key for key, _ in ResNet(50, base_channels=8).named_parameters()], ResNet(50).out_channels) == before


def test_gammas_start_at_zero_and_squeeze_follows_the_blocks_input() -> None:
    net = build_backbone("regnety_002")
    blocks = [block for i in range(1, 5) for block in net.get_submodule(f"layer{i}")]
    assert not any(block.bn3.weight.any() for block in blocks)
    inputs = [block.conv1.in_channels for block in blocks]
    assert [block.se_layer.conv1.out_channels for block in blocks] == [round(channels / 4) for channels in inputs]
    assert not any(isinstance(m, SELayer) for m in RegNet("regnetx_400mf").modules())
    assert blocks[0].plugin_names == ()  # a part of the net, not a layer new to it


def test_plugins_and_activations_are_those_of_the_config() -> None:
    plugin = {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv3"}
    net = RegNet("regnetx_400mf", se_ratio=0.25, plugins=[plugin], act_cfg={"type": "SiLU"}, out_indices=(0,))
    kinds = {type(layer).__name__ for layer in net.layer1.modules()}
    assert {"SELayer", "ContextBlock", "SiLU", "Sigmoid"} <= kinds
    assert all(type(m.conv1.activate) is nn.SiLU for m in net.modules() if isinstance(m, SELayer))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "regnetx_3.2g"}, r"arch: must be .*got 'regnetx_3.2g'; did you mean 'regnetx_3.2gf'"),
        ({"arch": {"w0": 24}}, r"arch: 'wa' is missing"),
        ({"arch": {**ARCHS["regnetx_400mf"], "w0": 20}}, r"arch.w0: must be a positive multiple of 8, got 20"),
        ({"arch": {**ARCHS["regnetx_400mf"], "wm": 1.0}}, r"arch.wm: must be more than 1, got 1.0"),
        ({"arch": {**ARCHS["regnetx_400mf"], "depth": 0}}, r"arch.depth: must be 1 or more, got 0"),
        ({"arch": "regnetx_400mf", "deep_stem": True}, r"deep_stem: must be False, got True"),
        ({"arch": "regnetx_400mf", "base_channels": 64}, r"base_channels: must be 32, got 64"),
        ({"arch": "regnetx_400mf", "depth": 50}, r"depth: RegNet has no argument 'depth'"),
        ({"arch": "regnetx_400mf", "se_ratio": -1.0}, r"se_ratio: must be 0 or more, got -1.0"),
        ({"arch": "regnetx_400mf", "strides": (1, 2)}, r"strides: needs 4 values, one a stage, got \(1, 2\)"),
    ],
)
def test_what_cannot_be_built_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RegNet(**arguments)
