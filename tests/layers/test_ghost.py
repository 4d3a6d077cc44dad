"""Ghost modules: closed forms of their convolutions, timm's modules, and what a drop-in for Conv2d must take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models import ghostnet as timm_ghostnet
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import CONV_LAYERS, ConvModule, GhostModule, build_conv_layer
from backbone_kit.layers.ghost import DFCAttention
from backbone_kit.layers.ghost_branches import GhostBranches

from .graphs import compiles_trains_and_exports

TYPES: dict[str, Any] = {"norm_cfg": {"type": "BN"}, "act_cfg": {"type": "ReLU", "inplace": True}}
BRANCHES: dict[str, Any] = {"conv_cfg": None, **TYPES}


def moved(net: nn.Module) -> nn.Module:
    """Norms off their start, so that one that is skipped or swapped shows; in eval."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.normal_(tensor, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


SHAPES = [
    {"kernel_size": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False},
    {"kernel_size": (1, 5), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 3)},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ratio", "dw_size", "out_channels"), [(2, 3, 12), (3, 5, 16), (4, 1, 8)])
def test_the_conv_type_is_a_convolution_and_depthwise_ones_of_its_output(shape, ratio, dw_size, out_channels):
    cfg = {"type": "Ghost", "ratio": ratio, "dw_size": dw_size}
    layer, x = build_conv_layer(cfg, 4, out_channels, **shape).double(), torch.randn(2, 4, 11, 14).double()
    first, ghosts = layer.primary_conv[0], layer.cheap_operation[0]
    options = {key: value for key, value in shape.items() if key not in ("kernel_size", "bias")}
    primary = F.conv2d(x, first.weight, first.bias, **options)
    height, width = shape.get("dilation", 1), shape.get("dilation", 1)
    if isinstance(height, tuple):
        height, width = height
    sides = (dw_size // 2 * height, dw_size // 2 * width)
    every = []
    for index, one in enumerate(primary.split(1, dim=1)):  # each channel by itself gives ratio - 1 ghosts
        rows = slice(index * (ratio - 1), (index + 1) * (ratio - 1))
        bias = None if ghosts.bias is None else ghosts.bias[rows]
        every.append(F.conv2d(one, ghosts.weight[rows], bias, padding=sides, dilation=(height, width)))
    assert primary.shape[1] == -(-out_channels // ratio)
    torch.testing.assert_close(layer(x), torch.cat([primary, *every], 1)[:, :out_channels])


@pytest.mark.parametrize("shape", SHAPES)
def test_it_gives_the_shapes_of_conv2d(shape):
    x = torch.randn(2, 4, 11, 14)
    ours, plain = GhostModule(4, 8, **shape), nn.Conv2d(4, 8, **shape)
    assert ours(x).shape == plain(x).shape
    assert {"bias" in key for key, _ in ours.named_parameters()} == (
        {True, False} if plain.bias is not None else {False}
    )


@pytest.mark.parametrize("out_channels", [12, 13])
@pytest.mark.parametrize("attention", [False, True])
@torch.no_grad()
def test_with_norms_it_is_timms_module(attention, out_channels):
    kind = timm_ghostnet.GhostModuleV2 if attention else timm_ghostnet.GhostModule
    ours = GhostModule(8, out_channels, 3, stride=2, padding=1, bias=False, attention=attention, **TYPES)
    theirs = moved(kind(8, out_channels, 3, stride=2))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 13, 18)
    torch.testing.assert_close(ours.eval()(x), theirs(x))


@pytest.mark.parametrize("mode", ["original", "shortcut"])
@torch.no_grad()
def test_with_branches_it_is_timms_module(mode):
    ours = GhostBranches(8, 12, attention=mode == "shortcut", **BRANCHES)
    theirs = moved(timm_ghostnet.GhostModuleV3(8, 12, mode=mode))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 13, 18)
    torch.testing.assert_close(ours.eval()(x), theirs(x))
    theirs.switch_to_deploy()
    merged = ours.merged()
    assert set(merged.state_dict()) == set(theirs.state_dict())
    merged.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(merged(x), theirs(x))


@pytest.mark.parametrize("attention", [False, True])
@torch.no_grad()
def test_merged_branches_compute_what_they_did(attention):
    net = moved(GhostBranches(8, 12, dw_size=5, dilation=2, attention=attention, **BRANCHES)).double()
    x = torch.randn(2, 8, 13, 18).double()
    before = net(x)
    merged = net.merged()
    assert isinstance(merged, GhostModule)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in merged.modules()) == 3 * attention
    torch.testing.assert_close(merged(x), before, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1)])
def test_attention_takes_maps_smaller_than_its_windows(size):
    gate = moved(DFCAttention(4, 6, norm_cfg={"type": "BN"}))
    x = torch.randn(2, 4, *size)
    means = x if size == (1, 1) else F.avg_pool2d(x, [min(2, side) for side in size])
    expected = nn.Sequential(*gate)(means).sigmoid()
    expected = F.interpolate(expected, size=size, mode="nearest")
    torch.testing.assert_close(gate(x, x), expected)


def test_dilated_attention_looks_at_the_same_places_of_the_picture():
    plain, dilated = DFCAttention(4, 6).eval(), DFCAttention(4, 6, dilation=3).eval()
    dilated.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 8, 6)
    wide = F.interpolate(x, scale_factor=3, mode="nearest")
    torch.testing.assert_close(dilated(wide, wide), F.interpolate(plain(x, x), scale_factor=3, mode="nearest"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GhostModule(3, 5, 3, padding=1, ratio=3),
        lambda: moved(GhostModule(3, 5, 1, bias=False, attention=True, norm_cfg={"type": "BN"})),
        lambda: moved(GhostBranches(3, 4, conv_cfg=None, norm_cfg={"type": "BN"})),
    ],
)
def test_gradients(make):
    layer = make().double()
    x = torch.randn(1, 3, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: GhostModule(4, 6, 3, stride=2, padding=1),
        lambda: GhostModule(4, 6, 1, bias=False, attention=True, **TYPES),
        lambda: GhostBranches(4, 6, attention=True, **BRANCHES),
    ],
)
def test_it_is_one_graph(make):
    compiles_trains_and_exports(moved(make()), torch.randn(2, 4, 8, 10), torch.randn(3, 4, 11, 14))


def test_a_conv_module_takes_it():
    module = ConvModule(4, 6, 3, padding=1, conv_cfg={"type": "Ghost"}, norm_cfg={"type": "BN"})
    assert module(torch.randn(2, 4, 8, 8)).shape == (2, 6, 8, 8)
    assert sorted(key for key, _ in module.named_parameters()) == [
        "bn.bias",
        "bn.weight",
        "conv.cheap_operation.0.weight",
        "conv.primary_conv.0.weight",
    ]


def test_the_types_of_its_layers_are_arguments():
    cfg = {"type": "Ghost", "conv_cfg": {"type": "ConvWS"}, "norm_cfg": {"type": "GN", "num_groups": 3}}
    layer = build_conv_layer({**cfg, "act_cfg": {"type": "SiLU"}}, 4, 6, 1)
    kinds = [type(each).__name__ for each in (*layer.primary_conv, *layer.cheap_operation)]
    assert kinds == ["ConvWS2d", "GroupNorm", "SiLU"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1}, "ratio: GhostModule: must be 2 or more, got 1; 1 is the plain convolution"),
        ({"dw_size": 4}, "dw_size: GhostModule: must be odd and positive, got 4"),
        ({"dw_sizes": 3}, "dw_sizes: GhostModule has no argument 'dw_sizes'; did you mean 'dw_size'?"),
        ({"norm_cfg": {"type": "SyncNB"}}, "norm_cfg.type: unknown norm layer 'SyncNB'; did you mean 'SyncBN'?"),
        ({"norm_cfg": {"type": "GN", "num_groups": 4}}, "norm_cfg: GhostModule: "),
    ],
)
def test_what_is_wrong_is_told(options, message):
    with pytest.raises(ConfigError) as error:
        build_conv_layer({"type": "Ghost", **options}, 4, 6, 1)
    assert message in str(error.value)


def test_groups_that_do_not_divide_are_told():
    with pytest.raises(ConfigError, match="groups: must divide the 3 channels before the ghosts, got 2"):
        GhostModule(4, 6, 1, groups=2)


def test_its_name_is_registered():
    assert CONV_LAYERS.get("Ghost") is GhostModule
