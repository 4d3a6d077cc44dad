"""The two convolutions, their own norms and activations, and what goes to both."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import DepthwiseSeparableConvModule, build_plugin_layer

from .graphs import compiles_trains_and_exports

BN = dict(type="BN")


def test_it_is_a_depthwise_convolution_and_a_pointwise_one():
    layer = DepthwiseSeparableConvModule(4, 6, 3, stride=2, padding=2, dilation=2, norm_cfg=BN).double().eval()
    for norm in (layer.depthwise_conv.bn, layer.pointwise_conv.bn):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    x = torch.randn(2, 4, 9, 8).double()
    inner = F.conv2d(x, layer.depthwise_conv.conv.weight, stride=2, padding=2, dilation=2, groups=4)
    inner = layer.depthwise_conv.bn(inner).relu()
    expected = layer.pointwise_conv.bn(F.conv2d(inner, layer.pointwise_conv.conv.weight)).relu()
    torch.testing.assert_close(layer(x), expected)


def test_keys_are_mmcvs():
    keys = list(DepthwiseSeparableConvModule(4, 6, 3, norm_cfg=BN, bias=True).state_dict())
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert keys == [
        f"{half}_conv.{key}"
        for half in ("depthwise", "pointwise")
        for key in ("conv.weight", "conv.bias", *(f"bn.{name}" for name in names))
    ]


def test_each_half_can_have_its_own_norm_and_activation():
    own = dict(dw_norm_cfg=None, dw_act_cfg=None, pw_norm_cfg=dict(type="GN", num_groups=2))
    layer = DepthwiseSeparableConvModule(4, 6, 3, norm_cfg=BN, act_cfg=dict(type="GELU"), **own)
    assert [name for name, _ in layer.depthwise_conv.named_children()] == ["conv"]
    assert [type(child) for child in layer.pointwise_conv.children()] == [nn.Conv2d, nn.GroupNorm, nn.GELU]
    assert type(DepthwiseSeparableConvModule(4, 6, 3, pw_act_cfg=None).depthwise_conv.activate) is nn.ReLU


def test_what_else_a_conv_module_takes_goes_to_both():
    layer = DepthwiseSeparableConvModule(4, 6, 3, conv_cfg=dict(type="ConvWS"), order=("act", "conv"))
    assert {type(half.conv).__name__ for half in layer.children()} == {"ConvWS2d"}


def test_mistakes_are_told_with_the_nearest_name():
    cfg = dict(type="DepthwiseSeparableConvModule", out_channels=4, kernel_size=3)
    mistakes = dict(group=4, pw_norm_cfg=dict(type="SyncBM"), odrer=("conv",))
    with pytest.raises(ConfigError) as caught:
        build_plugin_layer({**cfg, **mistakes}, in_channels=4)
    found = str(caught.value)
    assert "has no argument 'group'" in found
    assert "pw_norm_cfg.type: unknown norm layer 'SyncBM'; did you mean 'SyncBN'?" in found
    assert "has no argument 'odrer'; did you mean 'order'?" in found


def test_it_is_a_plugin_by_name():
    cfg = dict(type="DepthwiseSeparableConvModule", out_channels=4, kernel_size=3, padding=1)
    assert build_plugin_layer(cfg, in_channels=4)[1](torch.randn(1, 4, 5, 5)).shape == (1, 4, 5, 5)


def test_compiles_and_exports():
    layer = DepthwiseSeparableConvModule(2, 3, 3, padding=1, norm_cfg=BN)
    compiles_trains_and_exports(layer.eval(), torch.randn(2, 2, 8, 9), torch.randn(3, 2, 7, 12))
