"""What each argument of ResNet does, against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit import build_backbone
from backbone_kit.backbones import ResNet
from backbone_kit.layers import DCN, DCNv2, DropPath


def meta(depth: int = 50, **options: Any) -> ResNet:
    with torch.device("meta"):
        return ResNet(depth, **options)


def dilations(net: ResNet, stage: int) -> list[int]:
    conv = "conv2" if hasattr(net.layer1[0], "conv3") else "conv1"
    return [getattr(block, conv).dilation[0] for block in net.get_submodule(f"layer{stage}")]


@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 11176512), (34, 21284672), (50, 23508032), (101, 42500160), (152, 58143808)]
)
def test_depths_have_their_published_number_of_parameters(depth: int, parameters: int) -> None:
    assert sum(p.numel() for p in meta(depth).parameters()) == parameters


def test_style_puts_the_stride_on_the_3x3_or_the_first_1x1() -> None:
    for style, strides in (("pytorch", (1, 2)), ("caffe", (2, 1))):
        block = meta(style=style).layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
        basic = meta(18, style=style).layer2[0]
        assert (basic.conv1.stride[0], basic.conv2.stride[0]) == (2, 1)


def test_channels_follow_base_and_stem() -> None:
    net = meta(base_channels=32, stem_channels=48, in_channels=5)
    assert net.conv1.weight.shape == (48, 5, 7, 7)
    assert net.out_channels == (128, 256, 512, 1024)
    assert net.feature_info[0].channels == 48
    deep = meta(deep_stem=True, stem_channels=48)
    assert [deep.stem[i].out_channels for i in (0, 3, 6)] == [24, 24, 48]


def test_a_net_says_what_it_was_built_as() -> None:
    net = meta(34, base_channels=32, deep_stem=True, num_stages=3, style="caffe")
    assert (net.depth, net.base_channels, net.num_stages, net.style) == (34, 32, 3, "caffe")
    assert net.stem_channels == net.stem[6].out_channels == 32
    assert net.res_layers == [name for name, _ in net.named_children() if name.startswith("layer")]
    assert net.feat_dim == net.layer3[-1].conv2.out_channels == 128
    pruned = meta(prune_stages=True, out_indices=(1,))
    assert (pruned.res_layers, pruned.feat_dim) == (["layer1", "layer2"], 512)


def test_arguments_default_to_what_fits_num_stages() -> None:
    net = meta(num_stages=3)
    assert net.out_indices == (0, 1, 2)
    assert net.out_strides == (4, 8, 16)
    assert not hasattr(net, "layer4")


@pytest.mark.parametrize(
    ("options", "layer3", "layer4"),
    [
        ({"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1)}, [2] * 6, [4, 4, 4]),
        ({"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1), "contract_dilation": True}, [1] + [2] * 5, [2, 4, 4]),
        ({"dilations": (1, 1, 1, 2), "multi_grid": (1, 2, 4)}, [1] * 6, [1, 2, 4]),
        ({"output_stride": 8}, [1] + [2] * 5, [2, 4, 4]),
        ({"output_stride": 16}, [1] * 6, [1, 2, 2]),
        ({"output_stride": 8, "contract_dilation": False}, [2] * 6, [4, 4, 4]),
        ({"output_stride": 32}, [1] * 6, [1, 1, 1]),
    ],
)
def test_dilation_of_every_block(options: dict[str, Any], layer3: list[int], layer4: list[int]) -> None:
    net = meta(**options)
    assert dilations(net, 3) == layer3
    assert dilations(net, 4) == layer4


def test_dcn_falls_back_to_a_plain_convolution_on_every_stride_if_asked() -> None:
    for fallback, first in ((True, nn.Conv2d), (False, DCNv2)):
        cfg = {"type": "DCNv2", "deform_groups": 2, "fallback_on_stride": fallback}
        net = meta(dcn=cfg, stage_with_dcn=(False, True, True, True))
        assert cfg == {"type": "DCNv2", "deform_groups": 2, "fallback_on_stride": fallback}
        for stage in (net.layer2, net.layer3, net.layer4):
            assert type(stage[0].conv2) is first
            assert all(type(block.conv2) is DCNv2 and block.conv2.deform_groups == 2 for block in stage[1:])
        assert all(type(block.conv2) is nn.Conv2d for block in net.layer1)


def test_basic_blocks_take_dcn_and_plugins() -> None:
    plugins = [{"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": f"after_conv{i}"} for i in (1, 2)]
    plugins[1]["cfg"]["postfix"] = "_out"
    net = ResNet(18, base_channels=8, dcn={"type": "DCN"}, stage_with_dcn=(False, False, False, True), plugins=plugins)
    block = net.layer4[0]
    assert isinstance(block.conv2, DCN)
    assert not isinstance(block.conv1, DCN)
    assert block.plugin_names == ("context_block", "context_block_out")
    ran: list[str] = []
    for name, module in block.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    net.eval()(torch.randn(1, 3, 32, 32))
    order = ["conv1", "bn1", "relu", "context_block", "conv2", "bn2", "context_block_out", "downsample", "relu"]
    assert ran == order


def test_plugins_of_one_position_are_chained() -> None:
    """Each works on what the one before gave; with doubling plugins, n of them give 2**n."""
    double = {"type": "ConvModule", "out_channels": 64, "kernel_size": 1, "act_cfg": None}
    entries = [{"cfg": {**double, "postfix": f"_{i}"}, "position": "after_conv3"} for i in range(3)]
    net = ResNet(50, base_channels=16, num_stages=1, plugins=entries).eval()
    block = net.layer1[1]
    with torch.no_grad():
        for name in block.plugin_names:
            conv = block.get_submodule(name).conv
            conv.weight.copy_(2 * torch.eye(64)[..., None, None])
            conv.bias.zero_()
        block.bn3.weight.fill_(1)
        x = torch.randn(1, 64, 8, 8)
        plain = block.conv_norm(3, block.relu(block.conv_norm(2, block.relu(block.conv_norm(1, x)))))
        torch.testing.assert_close(block(x), torch.relu(x + 8 * plain))


def test_plugins_stand_in_the_stages_that_are_named() -> None:
    plugins = [{"cfg": {"type": "NonLocal2d"}, "stages": (False, True, False, True), "position": "after_conv2"}]
    net = meta(plugins=plugins)
    stages = [net.get_submodule(name) for name in net.stage_names]
    assert [hasattr(stage[0], "nonlocal_block") for stage in stages] == [False, True, False, True]


def test_drop_path_grows_linearly_over_the_blocks() -> None:
    net = meta(18, drop_path_rate=0.7)
    blocks = [block for name in net.stage_names for block in net.get_submodule(name)]
    rates = [block.drop_path.drop_prob if block.drop_path else 0.0 for block in blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


def test_drop_path_drops_the_branch_of_whole_pictures() -> None:
    torch.manual_seed(0)
    net = ResNet(18, base_channels=8, num_stages=1, drop_path_rate=0.5, zero_init_residual=False, norm_eval=False)
    block = net.train().layer1[1]
    x = torch.rand(64, 8, 4, 4)
    untouched = (block(x) == x).flatten(1).all(1).sum()
    assert 15 < untouched < 49  # of 64 with probability 1/2: 4.2 standard deviations
    assert isinstance(block.drop_path, DropPath)
    assert not (block.eval()(x) == x).flatten(1).all(1).any()


def test_act_cfg_reaches_the_stem_and_every_block() -> None:
    for options in ({}, {"deep_stem": True}):
        net = meta(18, act_cfg={"type": "LeakyReLU", "negative_slope": 0.1}, **options)
        kinds = {type(m) for m in net.modules() if type(m).__module__ == "torch.nn.modules.activation"}
        assert kinds == {nn.LeakyReLU}


def test_conv_and_norm_cfg_reach_every_layer() -> None:
    net = build_backbone(
        {"type": "ResNet", "depth": 18, "conv_cfg": {"type": "ConvWS"}, "norm_cfg": {"type": "GN", "num_groups": 2}},
        base_channels=8,
    )
    assert {type(m).__name__ for m in net.modules() if isinstance(m, nn.Conv2d)} == {"ConvWS2d"}
    assert "gn1.weight" in net.state_dict()
    assert "layer2.0.gn2.weight" in net.state_dict()
    assert "layer2.0.downsample.1.weight" in net.state_dict()


def test_a_norm_that_a_tool_replaced_is_the_one_that_runs() -> None:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet(18, base_channels=8))
    assert isinstance(net.layer1[0].norm(1), nn.SyncBatchNorm)
    assert net.layer1[0].norm(1) is net.layer1[0].bn1
