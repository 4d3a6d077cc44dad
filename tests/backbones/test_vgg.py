"""VGG equals torchvision's and timm's, run live, and MMPretrain's; SSDVGG equals MMDetection's."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import ConfigError, build_backbone, from_openmmlab
from backbone_kit.backbones import SSDVGG, VGG

from ..golden import cases, difference, fill, picture
from ..undrawn import undrawn
from .test_peers import randomized, relative_difference

NAMES = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
CASES = cases("openmmlab_vgg")


def pools(features: nn.Sequential) -> list[int]:
    return [index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", pytest.param("vgg19", marks=pytest.mark.slow)])
@torch.no_grad()
def test_equals_torchvision_at_every_pool(name: str) -> None:
    features = randomized(getattr(torchvision.models, name)(weights=None).features)
    with undrawn():
        net = build_backbone(name).eval()
    net.features.load_state_dict(features.state_dict())
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    theirs = [features[: end + 1](x) for end in pools(features)]
    assert relative_difference(net(x), theirs) < 1e-5


@pytest.mark.parametrize("name", ["vgg11_bn", pytest.param("vgg16", marks=pytest.mark.slow)])
@torch.no_grad()
def test_the_last_map_is_timms(name: str) -> None:
    peer = randomized(timm.create_model(name, num_classes=0))
    with undrawn():
        net = build_backbone(name).eval()
    net.load_state_dict({k: v for k, v in peer.state_dict().items() if k.startswith("features.")})
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert relative_difference(net(x)[-1:], [peer.forward_features(x)]) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_names_are_torchvisions_nets(name: str) -> None:
    with torch.device("meta"):
        ours = build_backbone(name)
        theirs = getattr(torchvision.models, name)(weights=None).features
    assert repr(list(ours.features)) == repr(list(theirs))
    assert list(ours.state_dict()) == [f"features.{key}" for key in theirs.state_dict()]


def as_mmpretrain(net: VGG) -> dict[str, str]:
    """Our keys by MMPretrain's, which numbers convolution, norm and activation as one."""
    names: dict[str, str] = {}
    number = 0
    for index, layer in enumerate(net.features):
        for kind, inner in ((nn.Conv2d, "conv"), (_BatchNorm, "bn")):
            if isinstance(layer, kind):
                names |= {f"features.{number}.{inner}.{key}": f"features.{index}.{key}" for key in layer.state_dict()}
        number += isinstance(layer, (nn.ReLU, nn.MaxPool2d))
    return names


@pytest.mark.parametrize("case", CASES, ids=[f"{case['cfg']['type']}-{i}" for i, case in enumerate(CASES)])
def test_equals_openmmlab(case: dict[str, Any]) -> None:
    with undrawn():
        net = build_backbone(from_openmmlab(case["cfg"], case["source"]))
    names = as_mmpretrain(net) if case["source"] == "mmpretrain" else {key: key for key in net.state_dict()}
    assert {old: list(net.state_dict()[new].shape) for old, new in names.items()} == case["keys"]
    assert list(names) == list(case["keys"])
    assert sum(p.numel() for p in net.parameters()) == case["n_params"]
    assert case["frozen_params"] == [n for n, p in net.named_parameters() if not p.requires_grad]
    training = [m for m in net.train().modules() if isinstance(m, _BatchNorm) and m.training]
    assert len(training) == len(case["batchnorms_in_train_mode"])

    theirs = nn.Module()
    for old, new in names.items():  # a module with their keys, to be filled by them
        *path, last = old.split(".")
        parent = theirs
        for child in path:
            if child not in dict(parent.named_children()):
                parent.add_module(child, nn.Module())
            parent = parent.get_submodule(child)
        parent.register_buffer(last, net.state_dict()[new])
    fill(theirs)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    assert max(map(difference, outputs, case["outputs"])) < 1e-4


@pytest.mark.parametrize(("kind", "strides"), [(VGG, (2, 4, 8, 16, 32)), (SSDVGG, (1, 2, 4, 8, 16))])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools_round_as_they_are_told(kind: Any, strides: tuple[int, ...], ceil_mode: bool) -> None:
    with torch.device("meta"):
        net = kind(11, ceil_mode=ceil_mode, out_indices=range(5)).eval()
        for size in ((64, 96), (37, 65), (99, 33)):
            sizes = [tuple(out.shape[2:]) for out in net(torch.empty(1, 3, *size))]
            assert sizes == [tuple(-(-n // s) if ceil_mode else n // s for n in size) for s in strides]
    assert net.out_strides == strides


def test_stages_freeze_from_the_first_on() -> None:
    """There is no stem: 0 freezes nothing, as in MMPretrain."""
    ends = {VGG: (3, 7, 14, 21, 28), SSDVGG: (2, 6, 13, 20, 99)}  # the last layer of each stage, with norms at depth 11
    for kind, last in ends.items():
        for frozen in range(-1, 6):
            net = kind(11, norm_cfg=dict(type="BN"), frozen_stages=frozen).train()
            for name, parameter in net.named_parameters():
                number = int(name.split(".")[1])
                assert parameter.requires_grad is (frozen < 1 or number > last[frozen - 1]), (kind, frozen, name)


def test_options_of_vgg_have_their_effect() -> None:
    with torch.device("meta"):
        plain = VGG(11, in_channels=1, num_stages=3)
        assert (len(plain.features), plain.out_channels, plain.out_strides) == (11, (64, 128, 256), (2, 4, 8))
        short = VGG(16, with_last_pool=False)
        assert short.out_strides == (2, 4, 8, 16, 16)
        assert type(short.features[-1]) is nn.ReLU
        wide = VGG(
            11, dilations=(1, 1, 1, 1, 2), act_cfg=dict(type="LeakyReLU"), norm_cfg=dict(type="GN", num_groups=8)
        )
    dilated = [m for m in wide.modules() if isinstance(m, nn.Conv2d) and m.dilation == (2, 2)]
    assert [m.padding for m in dilated] == [(2, 2)] * 2
    assert {type(m).__name__ for m in wide.features} == {"Conv2d", "GroupNorm", "LeakyReLU", "MaxPool2d"}
    assert not any(
        m.training for m in VGG(11, norm_cfg=dict(type="BN"), norm_eval=True).modules() if isinstance(m, _BatchNorm)
    )


@torch.no_grad()
def test_ssd_takes_stages_or_layers_and_keeps_the_order() -> None:
    """Upstream, out_indices has no effect, the order is lost, and one map is no tuple."""
    x = torch.randn(1, 3, 40, 40)
    net = SSDVGG(16).eval()
    assert net.out_indices == (3, 4)
    maps = net.forward_intermediates(x)
    for arguments, levels in {
        ("out_indices", (4, 2)): ("stage5", "stage3"),
        ("out_indices", (-1,)): ("stage5",),
        ("out_feature_indices", (22, 34)): ("stage4", "stage5"),
        ("out_feature_indices", (34, 3)): ("stage5", "stage1"),
    }.items():
        other = SSDVGG(16, **dict([arguments])).eval()
        other.load_state_dict(net.state_dict())
        outputs = other(x)
        assert len(outputs) == len(levels)
        assert all(torch.equal(ours, maps[level]) for ours, level in zip(outputs, levels))


@torch.no_grad()
def test_any_activation_or_pool_of_ssd_can_be_returned() -> None:
    wanted = (
        22,
        23,
        29,
        30,
        32,
    )  # the end of stage 4, its pool, the last of VGG, the pool behind it, half a classifier
    net = SSDVGG(16, out_feature_indices=wanted).eval()
    assert [info.name for info in net.feature_info][4:] == [
        *("stage4", "features23", "features29", "features30", "features32", "stage5"),
    ]
    assert net.out_channels == (512, 512, 512, 512, 1024)
    assert net.out_strides == (8, 16, 16, 16, 16)
    x = torch.randn(1, 3, 64, 64)
    expected, y = {}, x
    for number, layer in enumerate(net.features):
        y = expected[number] = layer(y)
    for ours, number in zip(net(x), wanted):
        torch.testing.assert_close(ours, expected[number])
    frozen = SSDVGG(16, out_feature_indices=wanted, frozen_stages=4)
    assert next(n for n, p in frozen.named_parameters() if p.requires_grad) == "features.24.weight"
    assert len(SSDVGG(16, out_feature_indices=(22,), prune_stages=True).features) == 23


def test_the_last_pool_of_ssd() -> None:
    with torch.device("meta"):
        net = SSDVGG(16, with_last_pool=True)
    assert net.out_strides == (8, 32)
    assert [(m.kernel_size, m.stride) for m in net.features[30:32]] == [(2, 2), (3, 1)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VGG(12), "depth: must be one of 11, 13, 16, 19, got 12"),
        (lambda: VGG(11, num_stages=6), "num_stages: must be from 1 to 5, got 6"),
        (lambda: VGG(11, dilations=(1, 2)), r"dilations: needs 5 values, one a stage, got \(1, 2\)"),
        (lambda: VGG(11, dilations=(1, 1, 1, 1, 0)), r"dilations\[4\]: must be 1 or more, got 0"),
        (lambda: VGG(11, num_classes=10), "VGG has no argument 'num_classes'"),
        (
            lambda: SSDVGG(16, out_feature_indices=(22, 33)),
            r"out_feature_indices\[1\]: must be an activation or a pool, .* got 33",
        ),
        (lambda: SSDVGG(16, out_feature_indices=()), "out_feature_indices: must name one layer or more"),
        (
            lambda: SSDVGG(16, out_feature_indices=(22, 22)),
            "out_feature_indices: must name one layer or more, each once",
        ),
        (
            lambda: SSDVGG(16, out_indices=(3, 4), out_feature_indices=(15, 34)),
            r"out_feature_indices: says \(15, 34\), and out_indices=\(3, 4\) means \(22, 34\); give one",
        ),
        (lambda: SSDVGG(16, input_size=300), "SSDVGG has no argument 'input_size'"),
    ],
)
def test_bad_input_is_told(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
