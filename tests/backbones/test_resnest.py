"""ResNeSt computes what the original's, timm's and OpenMMLab's compute, and does what these only promise."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import resnest.torch
import timm
import torch
import torchvision
from resnest.torch.resnet import Bottleneck as TheirBottleneck
from resnest.torch.resnet import ResNet as Original
from torch import Tensor, nn

from backbone_kit import ConfigError, build_backbone, from_openmmlab, load_checkpoint
from backbone_kit.backbones import ResNeSt, ResNet
from backbone_kit.layers import DCNv2, RFConv2d, SplitAttentionConv2d
from backbone_kit.layers.drop_block import DropBlock

from .test_peers import LAYERS, randomized, relative_difference

slow = pytest.mark.slow

# The README of the original, with a classifier of 2,049,000.
PARAMETERS = {
    "resnest50": 27483240,
    "resnest101": 48275016,
    "resnest200": 70201544,
    "resnest269": 110929480,
    "resnest50_fast_1s1x64d": 26217896,
    "resnest50_fast_2s1x64d": 27483240,
    "resnest50_fast_4s1x64d": 31912712,
    "resnest50_fast_1s2x40d": 25946680,
    "resnest50_fast_2s2x40d": 26943792,
    "resnest50_fast_4s2x40d": 30417592,
    "resnest50_fast_1s4x24d": 25677000,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build_backbone(name).parameters()) + 2049000 == PARAMETERS[name]


def same_maps(net: ResNeSt, peer: nn.Module, size: tuple[int, int] = (65, 97)) -> float:
    """Serves the peer's weights, and compares the maps of all stages."""
    load_checkpoint(net, randomized(peer).state_dict())
    levels = torchvision.models._utils.IntermediateLayerGetter(peer, LAYERS)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return relative_difference(net.eval()(x), list(levels(x).values()))


def _mostly_slow(names: Any, *fast: str) -> list[Any]:
    return [pytest.param(name, marks=() if name in fast else slow) for name in names]


@pytest.mark.parametrize("name", _mostly_slow(PARAMETERS, "resnest50", "resnest50_fast_4s2x40d"))
def test_names_are_the_originals_nets(name: str) -> None:
    net = build_backbone(name, frozen_stages=-1, norm_eval=False, out_indices=(0, 1, 2, 3))
    assert same_maps(net, getattr(resnest.torch, name)()) < 1e-5


@pytest.mark.parametrize(("output_stride", "theirs"), [(8, dict(dilated=True)), (16, dict(dilation=2))])
@pytest.mark.parametrize("name", _mostly_slow(("resnest50", "resnest50_fast_1s4x24d"), "resnest50"))
def test_output_stride_is_the_originals_dilation(name: str, output_stride: int, theirs: dict[str, Any]) -> None:
    net = build_backbone(name, output_stride=output_stride, out_indices=(0, 1, 2, 3))
    assert net.out_strides[-1] == output_stride
    assert same_maps(net, getattr(resnest.torch, name)(**theirs)) < 1e-5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (dict(radix=0), dict(radix=0, deep_stem=True, stem_width=32, avg_down=True, avd=True)),
        (
            dict(radix=3, base_width=48, deep_stem=False, avg_down=False, avg_down_stride=False),
            dict(radix=3, bottleneck_width=48),
        ),
        (
            dict(radix=0, groups=4, base_width=32, stem_width=16, avd_first=True, output_stride=8),
            dict(
                radix=0,
                groups=4,
                bottleneck_width=32,
                deep_stem=True,
                stem_width=16,
                avg_down=True,
                avd=True,
                avd_first=True,
                dilation=4,
            ),
        ),
    ],
)
def test_options_are_the_originals(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert same_maps(ResNeSt(14, **ours), Original(TheirBottleneck, [1, 1, 1, 1], **theirs)) < 1e-5


class Rectified(nn.Conv2d):
    """What the original's compiled extension does without dilation, counted with a convolution of ones."""

    def __init__(self, *args: Any, average_mode: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.average_mode = average_mode

    def forward(self, x: Tensor) -> Tensor:
        taps = self.kernel_size[0] * self.kernel_size[1]
        ones = torch.ones(1, 1, *self.kernel_size)
        valid = nn.functional.conv2d(torch.ones_like(x[:1, :1]), ones, None, self.stride, self.padding)
        return super().forward(x) * (1 if self.average_mode else taps) / valid


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(("radix", "deep"), [(0, True), (2, True), (2, False)])
def test_rectified_nets_are_the_originals(
    average: bool, radix: int, deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rfconv", types.SimpleNamespace(RFConv2d=Rectified))  # type: ignore[arg-type]
    options: dict[str, Any] = dict(rectified_conv=True, rectify_avg=average, radix=radix)
    peer = Original(TheirBottleneck, [1] * 4, deep_stem=deep, stem_width=32, avg_down=True, avd=True, **options)
    assert same_maps(ResNeSt(14, deep_stem=deep, **options), peer) < 1e-5


TIMM = ["resnest14d", "resnest26d", "resnest50d", "resnest50d_1s4x24d", "resnest50d_4s2x40d"]
TIMM += ["resnest101e", "resnest200e", "resnest269e"]


@pytest.mark.parametrize("name", _mostly_slow(TIMM, "resnest14d", "resnest50d_4s2x40d"))
@torch.no_grad()
def test_names_are_timms_nets(name: str) -> None:
    peer = randomized(timm.create_model(name))
    net = build_backbone(name).eval()
    load_checkpoint(net, peer.state_dict())
    x = torch.randn(1, 3, 65, 97)
    assert relative_difference(net(x)[-1:], [peer.forward_features(x)]) < 1e-5


def test_radix_0_without_its_pools_is_torchvisions_resnet() -> None:
    peer = torchvision.models.resnext50_32x4d(weights=None)
    plain = dict(radix=0, deep_stem=False, avg_down=False, avg_down_stride=False)
    assert same_maps(ResNeSt(50, groups=32, base_width=4, **plain), peer) < 1e-5
    assert list(ResNeSt(14, **plain).state_dict()) == list(ResNet(14).state_dict())


def test_base_width_of_one_group_is_heard_but_for_mmdetections_default() -> None:
    widths = [ResNeSt(14, base_width=width).layer1[0].conv2.channels for width in (None, 4, 64, 48)]
    assert widths == [64, 64, 64, 48]
    assert ResNeSt(14, groups=2).layer4[0].conv2.channels == 512 * 4 // 64 * 2


def test_mmpretrains_width_per_group_is_base_width() -> None:
    cfg = from_openmmlab(dict(type="mmpretrain.ResNeSt", depth=50, groups=2, width_per_group=40))
    assert cfg == {
        "type": "ResNeSt",
        "depth": 50,
        "groups": 2,
        "base_width": 40,
        "norm_eval": False,
        "stem_channels": 64,
        "out_indices": (3,),
    }


def test_last_gamma_zeroes_every_block_and_is_zero_init_residual() -> None:
    for options in ({}, {"last_gamma": True}, {"zero_init_residual": True}):
        blocks = [block for stage in list(ResNeSt(26, **options).children())[2:] for block in stage]
        assert len(blocks) == 8
        assert not any(block.bn3.weight.any() for block in blocks)
    assert ResNeSt(14, last_gamma=False).layer1[0].bn3.weight.all()


@pytest.mark.parametrize("radix", [0, 2])
def test_dropblock_acts_behind_each_norm_of_the_last_two_stages(radix: int) -> None:
    net = ResNeSt(14, radix=radix, dropblock_prob=0.5, norm_eval=True, zero_init_residual=False)
    found = {name for name, module in net.named_modules() if isinstance(module, DropBlock)}
    second = "conv2.dropblock" if radix else "drop_block2"
    places = ("drop_block1", second, "drop_block3")
    assert found == {f"layer{stage}.0.{place}" for stage in (3, 4) for place in places}
    plain = ResNeSt(14, radix=radix, norm_eval=True)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for training in (True, False):
            ours, theirs = net.train(training)(x), plain.train(training)(x)
            assert [torch.equal(a, b) for a, b in zip(ours, theirs)] == [True, True, not training, not training]
        block = net.train().layer3[0]
        dropped = []
        for place in places:
            block.get_submodule(place).register_forward_hook(
                lambda m, a, y: dropped.append(float((y == 0).float().mean()))
            )
        net(x)
    assert all(0.2 < part < 0.7 for part in dropped)
    assert len(dropped) == 3


def test_dropblock_can_grow() -> None:
    net = ResNeSt(14, dropblock_prob=0.1, dropblock_warmup=100)
    assert {m.warmup_iters for m in net.modules() if isinstance(m, DropBlock)} == {100}
    assert len([key for key in net.state_dict() if key.endswith("iteration")]) == 6


@torch.no_grad()
def test_drop_path_drops_the_residual_branch_and_never_the_shortcut() -> None:
    net = ResNeSt(26, drop_path_rate=0.5, norm_eval=True, zero_init_residual=False).train()
    first, second = net.layer4
    for block in (first, second):
        assert block.drop_path.drop_prob > 0.4
        block.drop_path.drop_prob = 1.0
    x = torch.randn(2, 1024, 6, 6)
    torch.testing.assert_close(first(x), first.downsample(x).relu())
    torch.testing.assert_close(second(x := first(x)), x)


def test_the_pool_has_the_stride_where_the_3x3_had_it() -> None:
    def pools(**options: Any) -> list[int]:
        net = ResNeSt(26, **options)
        blocks = [block for stage in list(net.children())[2:] for block in stage]
        return [0 if block.pool is None else block.pool.stride for block in blocks]

    assert pools() == [0, 0, 2, 0, 2, 0, 2, 0]
    assert pools(output_stride=8) == [0, 0, 2, 0, 1, 0, 1, 0]
    assert pools(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)) == [0, 0, 2, 0, 0, 0, 0, 0]  # as MMDetection
    assert pools(avg_down_stride=False) == [0] * 8
    assert pools(style="caffe") == [0] * 8


def test_plugins_and_dcn_take_the_width_of_the_groups() -> None:
    plugins = [
        dict(cfg=dict(type="ContextBlock", ratio=0.25, postfix=place), position=place)
        for place in ("after_conv1", "after_conv2", "after_conv3")
    ]
    dcn, stages = dict(type="DCNv2", deform_groups=2), (False, True, True, True)
    net = ResNeSt(14, groups=2, base_width=40, plugins=plugins, dcn=dcn, stage_with_dcn=stages)
    block = net.layer2[0]
    widths = [getattr(block, name).conv_mask.in_channels for name in block.plugin_names]
    assert widths == [160, 160, 512]
    assert [type(stage[0].conv2.conv) is DCNv2 for stage in list(net.children())[2:]] == list(stages)
    assert block.conv2.conv.groups == 4
    assert [out.shape[2:] for out in net.eval()(torch.randn(1, 3, 64, 64))] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert dcn == dict(type="DCNv2", deform_groups=2)


def test_types_of_layers_reach_the_split_attention() -> None:
    types = dict(conv_cfg=dict(type="ConvWS"), norm_cfg=dict(type="GN", num_groups=4), act_cfg=dict(type="SiLU"))
    split = ResNeSt(14, **types).layer1[0].conv2
    assert isinstance(split, SplitAttentionConv2d)
    assert [type(layer).__name__ for layer in (split.conv, split.gn0, split.gn1, split.relu)] == [
        "ConvWS2d",
        "GroupNorm",
        "GroupNorm",
        "SiLU",
    ]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ResNeSt(14, **types).modules())
    assert all(type(m) is RFConv2d or m.kernel_size == (1, 1) for m in _convs(ResNeSt(14, rectified_conv=True)))


def _convs(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


def test_one_picture_trains_with_running_statistics_and_is_refused_without() -> None:
    x = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"cannot train on one picture.*batch_of_one='running_stats'"):
        ResNeSt(14, norm_eval=False).train()(x)
    ResNeSt(14, norm_eval=False, batch_of_one="running_stats").train()(x)[-1].sum().backward()


REFUSED: list[tuple[dict[str, Any], str]] = [
    (dict(depth=18), "depth: must be one of 14, 26, 50, 101, 152, 200, 269, got 18"),
    (dict(radix=-1), "radix: must be 0 or more, got -1"),
    (dict(radix=5), r"`in_channels` \(=64\) must be divisible by groups \(=1\) times radix \(=5\)"),
    (dict(avd_first=True, avg_down_stride=False), "avd_first: has no effect without avg_down_stride=True"),
    (dict(aa_layer="avg"), "aa_layer: and avg_down_stride=True both have the strides"),
    (dict(last_gamma=True, zero_init_residual=False), "last_gamma: contradicts zero_init_residual=False"),
    (dict(rectify_avg=True), "rectify_avg: has no effect without rectified_conv=True"),
    (dict(rectified_conv=True, conv_cfg=dict(type="ConvWS")), "rectified_conv: takes the place of conv_cfg="),
    (dict(dropblock_warmup=10), "dropblock_warmup: has no effect without dropblock_prob"),
    (dict(dropblock_prob=1.0), "dropblock_prob: must be from 0 to less than 1, got 1.0"),
    (dict(cardinality=2), "ResNeSt has no argument 'cardinality'"),
    (dict(drop_block_rate=0.1), "ResNeSt has no argument 'drop_block_rate'"),
    (dict(batch_of_one="skip"), "batch_of_one: must be 'refuse' or 'running_stats', got 'skip'"),
    (
        dict(plugins=[dict(cfg=dict(type="ECA"), position="after_norm2")]),
        r"plugins\[0\].position: conv2, a SplitAttentionConv2d, has its norm inside; use 'after_conv2'",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResNeSt(**{"depth": 14, **options})
