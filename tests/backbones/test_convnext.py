"""ConvNeXt computes what mmpretrain's and timm's compute, from the same dicts, names and weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError, build_backbone, from_openmmlab, list_backbones
from backbone_kit.backbones import Backbone
from backbone_kit.backbones.convnext import ConvNeXt
from backbone_kit.backbones.convnext_block import ConvNeXtBlock
from backbone_kit.layers import LayerNorm2d
from backbone_kit.names import named_config

from ..golden import cases, difference, fill, picture
from .test_peers import relative_difference

CASES = cases("mmpretrain_convnext")
LARGE = ("xlarge", "huge")  # filling their weights takes too long; their keys and shapes are compared
SMALL = {"depths": (1, 2), "channels": (8, 16)}


def small(**arguments: Any) -> ConvNeXt:
    return ConvNeXt(**{"arch": SMALL, "gap_before_final_norm": False, "out_indices": None, **arguments})


# mmpretrain


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['cfg']['arch']}-{case['cfg'].get('use_grn', False)}")
def test_keys_and_freezing_are_mmpretrains(case: dict[str, Any]) -> None:
    with torch.device("meta"):
        net = build_backbone(from_openmmlab(case["cfg"], source="mmpretrain"))
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == case["keys"]
    assert sum(p.numel() for p in net.parameters()) == case["n_params"]
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == case["frozen_params"]


def _small_cases() -> list[Any]:
    chosen = [case["cfg"] for case in CASES if case["cfg"]["arch"] not in LARGE]
    marks = [() if cfg["arch"] == "femto" else pytest.mark.slow for cfg in chosen]
    found = [case for case in CASES if case["cfg"] in chosen]
    return [pytest.param(case, id=case["cfg"]["arch"], marks=mark) for case, mark in zip(found, marks)]


@pytest.mark.parametrize("case", _small_cases())
def test_outputs_are_mmpretrains(case: dict[str, Any]) -> None:
    net = build_backbone(from_openmmlab(case["cfg"], source="mmpretrain"))
    fill(net)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    assert max(map(difference, outputs, case["outputs"])) < 1e-4


def test_the_average_before_the_norm_is_the_only_difference_to_maps() -> None:
    vectors, maps = small(gap_before_final_norm=True).eval(), small(output_norm="none").eval()
    vectors.load_state_dict(maps.state_dict(), strict=False)
    x = torch.randn(2, 3, 36, 44)
    with torch.no_grad():
        for i, (vector, map_) in enumerate(zip(vectors(x), maps(x))):
            norm = vectors.get_submodule(f"norm{i}")
            torch.testing.assert_close(vector, norm(map_.mean((2, 3), keepdim=True)).flatten(1))


def test_freezing_nothing_translates_from_mmpretrains_zero() -> None:
    """Their 0 freezes nothing, their k the stem and k stages; one meaning here: -1 nothing, 0 the stem."""
    for theirs, ours in ((0, -1), (1, 1), (3, 3)):
        assert from_openmmlab(dict(type="mmpretrain.ConvNeXt", frozen_stages=theirs))["frozen_stages"] == ours
    assert from_openmmlab(dict(type="ResNet", depth=50, frozen_stages=0))["frozen_stages"] == 0


def test_a_frozen_stage_takes_its_downsampling_and_its_norm_along() -> None:
    prefixes = {0: ("downsample_layers.0",), 1: ("downsample_layers.0", "stages.0", "norm0")}
    for frozen, held in prefixes.items():
        net = small(frozen_stages=frozen)
        assert all(p.requires_grad is not key.startswith(held) for key, p in net.named_parameters())


# timm

NAMES = {
    "convnext_atto": (),
    "convnext_atto_ols": (),
    "convnext_atto_rms": (),
    "convnext_zepto_rms_ols": (),
    "convnext_nano_ols": pytest.mark.slow,
    "convnext_tiny": pytest.mark.slow,
    "convnext_tiny_hnf": pytest.mark.slow,
    "convnextv2_atto": (),
    "convnextv2_tiny": pytest.mark.slow,
    "test_convnext3": (),
}


def weights_of(peer: nn.Module) -> dict[str, Tensor]:
    """timm's weights under mmpretrain's keys, without the classifier's."""
    patterns = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
        (r"\.conv_dw\.", ".depthwise_conv."),
        (r"\.mlp\.fc(\d)\.", r".pointwise_conv\1."),
        (r"\.mlp\.grn\.weight", ".grn.gamma"),
        (r"\.mlp\.grn\.bias", ".grn.beta"),
        (r"^norm_pre\.", "norm3."),
    ]
    found = {}
    for key, value in peer.state_dict().items():
        for pattern, ours in patterns:
            key = re.sub(pattern, ours, key)
        if not key.startswith("head."):
            found[key] = value
    return found


def scattered(net: nn.Module) -> nn.Module:
    """Vectors off their start: a layer scale of 1e-6 would hide the blocks, a gamma of 0 the GRN."""
    generator = torch.Generator().manual_seed(0)
    for key, parameter in net.named_parameters():
        if parameter.ndim == 1:
            low, high = (-0.3, 0.3) if key.endswith("bias") else (0.5, 1.5)
            nn.init.uniform_(parameter, low, high, generator=generator)
        elif parameter.ndim:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
    return net.eval()


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, marks in NAMES.items()])
@torch.no_grad()
def test_a_timm_name_is_timms_net(name: str) -> None:
    peer = scattered(timm.create_model(name))
    net = build_backbone(name).eval()
    net.load_state_dict(weights_of(peer))
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    last, levels = peer.forward_intermediates(x, norm=True)
    assert relative_difference(net(x), levels) < 1e-5
    torch.testing.assert_close(levels[-1], last)


TIMMS = [
    name
    for name in list_backbones("*convnext*")
    if named_config(name)["type"] == "ConvNeXt" and not name.endswith("_normed")
]


def test_the_names_are_timms() -> None:
    assert set(TIMMS) == {*timm.list_models("*convnext*", module="convnext")}


@pytest.mark.parametrize("name", TIMMS)
def test_every_name_has_timms_weights(name: str) -> None:
    with torch.device("meta"):
        peer, net = timm.create_model(name), build_backbone(name)
    shapes = {key: value.shape for key, value in weights_of(peer).items()}
    assert shapes == {key: value.shape for key, value in net.state_dict().items()}
    assert [info["reduction"] for info in peer.feature_info] == list(net.out_strides)
    theirs, ours = ([m.eps for m in n.modules() if isinstance(m, nn.LayerNorm)] for n in (peer, net))
    assert set(theirs) == set(ours)


# What follows from the arguments


def test_every_output_has_its_norm_or_none_or_the_last() -> None:
    assert [key for key in small().state_dict() if key.startswith("norm")] == [
        "norm0.weight",
        "norm0.bias",
        "norm1.weight",
        "norm1.bias",
    ]
    assert {key.split(".")[0] for key in small(output_norm="last").state_dict() if "norm" in key[:5]} == {"norm1"}
    assert not [key for key in small(output_norm="none").state_dict() if key.startswith("norm")]
    assert not hasattr(small(out_indices=(0,)), "norm1")
    assert not hasattr(small(out_indices=(0,), output_norm="last"), "norm0")


def test_the_stem_is_the_map_of_stride_four() -> None:
    net = small().eval()
    x = torch.randn(1, 3, 32, 48)
    levels = net.forward_intermediates(x)
    assert [(info.name, info.stride) for info in net.feature_info] == [("stem", 4), ("stages.0", 4), ("stages.1", 8)]
    torch.testing.assert_close(levels["stem"], net.downsample_layers[0](x))


def test_linear_and_convolution_are_the_same_layer() -> None:
    linear, conv = small(use_grn=True).eval(), small(use_grn=True, linear_pw_conv=False).eval()
    scattered(linear)
    shapes = {key: value.shape for key, value in conv.state_dict().items()}
    conv.load_state_dict({key: value.view(shapes[key]) for key, value in linear.state_dict().items()})
    x = torch.randn(2, 3, 36, 44)
    with torch.no_grad():
        for a, b in zip(linear(x), conv(x)):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("arguments", [{}, {"use_grn": True, "layer_scale_init_value": 0.0}])
def test_recomputed_blocks_give_the_same_gradients(arguments: dict[str, Any]) -> None:
    plain, recomputed = small(**arguments), small(**arguments, with_cp=True)
    scattered(plain)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for net in (plain, recomputed):
        sum(out.square().mean() for out in net.train()(x)).backward()
    for a, b in zip(plain.parameters(), recomputed.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    net = ConvNeXt("atto", drop_path_rate=0.22)
    blocks = [block for block in net.modules() if isinstance(block, ConvNeXtBlock)]
    rates = [block.drop_path.drop_prob if block.drop_path is not None else 0.0 for block in blocks]
    assert rates == pytest.approx([0.02 * i for i in range(12)])


def test_it_starts_as_the_papers_say() -> None:
    net = ConvNeXt("nano", use_grn=True, layer_scale_init_value=0.5)
    for again in (False, True):
        if again:
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.fill_(7)
            net.init_weights()
        convs = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        values = torch.cat([m.weight.detach().flatten() for m in convs])
        assert (float(values.mean()), float(values.std())) == pytest.approx((0, 0.02), abs=1e-4)
        assert not any(m.bias.any() for m in convs)
        blocks = [m for m in net.modules() if isinstance(m, ConvNeXtBlock)]
        assert all((b.gamma == 0.5).all() and not b.grn.gamma.any() and not b.grn.beta.any() for b in blocks)
        assert all((m.weight == 1).all() for m in net.modules() if isinstance(m, LayerNorm2d))


def test_norms_activations_and_convolutions_are_those_of_the_config() -> None:
    net: Backbone = small(
        norm_cfg={"type": "BN"},
        act_cfg={"type": "ReLU"},
        conv_cfg={"type": "ConvWS"},
        linear_pw_conv=False,
        norm_eval=True,
    ).train()
    kinds = {type(layer).__name__ for layer in net.modules() if not list(layer.children())}
    assert kinds == {"ConvWS2d", "BatchNorm2d", "ReLU"}
    assert not any(layer.training for layer in net.modules() if isinstance(layer, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "huje"}, r"arch: must be .*got 'huje'; did you mean 'huge'"),
        ({"arch": {"depths": [1, 2]}}, r"arch: 'channels' is missing"),
        ({"arch": {"depths": [1], "channels": [8, 16]}}, r"arch: needs as many depths as channels"),
        ({"arch": {"depths": [1, 0], "channels": [8, 16]}}, r"arch.depths\[1\]: must be 1 or more, got 0"),
        ({"output_norm": "last"}, r"gap_before_final_norm: needs output_norm='each', got 'last'; set it to False"),
        ({"stem_type": "overlap", "stem_patch_size": 2}, r"stem_patch_size: must be 4 with stem_type='overlap', got 2"),
        ({"kernel_sizes": (7, 5)}, r"kernel_sizes: needs an odd number, or 4 of them, got \(7, 5\)"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate: must be from 0 to less than 1, got 1.0"),
        ({"out_indices": 4}, r"out_indices: 4 is out of range: the 4 stages are 0 to 3"),
    ],
)
def test_what_cannot_be_built_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvNeXt(**arguments)
