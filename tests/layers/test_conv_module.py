"""ConvModule: order, bias, padding, in-place activations and initialisation, each against PyTorch's own functions."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops.misc import Conv2dNormActivation

from backbone_kit.errors import ConfigError
from backbone_kit.layers import ConvModule, DropPath, build_plugin_layer

BN = dict(type="BN")


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 4, 9, 9)


def test_equals_torchvisions_block(x):
    ours = ConvModule(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, norm_cfg=BN)
    peer = Conv2dNormActivation(4, 6, 3, 2, groups=2, dilation=2)
    peer.load_state_dict(dict(zip(peer.state_dict(), ours.state_dict().values(), strict=True)))
    torch.testing.assert_close(ours(x), peer(x))


@pytest.mark.parametrize(
    ("norm_cfg", "children"),
    [
        (BN, ["conv", "bn", "activate"]),
        (dict(type="GN", num_groups=2), ["conv", "gn", "activate"]),
        (None, ["conv", "activate"]),
    ],
)
def test_names_of_the_children(norm_cfg, children):
    block = ConvModule(4, 6, 3, norm_cfg=norm_cfg)
    assert [name for name, _ in block.named_children()] == children
    assert block.norm is (getattr(block, children[1]) if norm_cfg else None)
    assert (block.with_norm, block.norm_name) == ((True, children[1]) if norm_cfg else (False, None))
    assert block.with_activation
    assert not ConvModule(4, 6, 3, norm_cfg=norm_cfg, act_cfg=None).with_activation


ORDERS = [o for n in (1, 2, 3) for o in itertools.permutations(("conv", "norm", "act"), n) if "conv" in o]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("kind", [tuple, list])
def test_every_order_is_what_it_says(order, kind, x):
    block = ConvModule(4, 6, 3, norm_cfg=BN if "norm" in order else None, order=kind(order)).eval()
    channels, y = 4, x
    for step in order:
        if step == "conv":
            channels, y = 6, F.conv2d(y, block.conv.weight, block.conv.bias)
        elif step == "norm":
            y = F.batch_norm(y, torch.zeros(channels), torch.ones(channels))
        else:
            y = F.relu(y)
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_the_input_stays_as_it_is(order, x):
    block = ConvModule(4, 6, 3, norm_cfg=BN if "norm" in order else None, order=order)
    before = x.clone()
    block(x, norm=False)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("arguments", "bias"),
    [
        ({}, True),
        (dict(norm_cfg=BN), False),
        (dict(norm_cfg=BN, order=("norm", "act", "conv")), True),
        (dict(norm_cfg=BN, order=("conv", "act", "norm")), False),
        (dict(norm_cfg=BN, bias=True), True),
        (dict(bias=False), False),
    ],
)
def test_bias_unless_a_norm_follows(arguments, bias):
    assert (ConvModule(4, 6, 3, **arguments).conv.bias is not None) is bias


@pytest.mark.parametrize("mode", ["zeros", "zero", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("padding", "sides"), [(2, (2, 2, 2, 2)), ((1, 2), (2, 2, 1, 1)), ([1, 2], (2, 2, 1, 1))])
def test_padding_modes_are_real(mode, padding, sides, x):
    block = ConvModule(4, 6, 3, padding=padding, padding_mode=mode, act_cfg=None)
    padded = F.pad(x, sides, mode="constant" if mode.startswith("zero") else mode)
    torch.testing.assert_close(block(x), F.conv2d(padded, block.conv.weight, block.conv.bias))


def test_padding_applies_to_any_conv_type(x):
    block = ConvModule(4, 6, 3, padding=1, padding_mode="circular", conv_cfg=dict(type="ConvWS"), act_cfg=None)
    padded = F.pad(x, (1, 1, 1, 1), mode="circular")
    torch.testing.assert_close(block(x), F.conv2d(padded, block.conv.standardized_weight(), block.conv.bias))


def test_inplace_of_the_activations_own_config_wins():
    assert ConvModule(4, 6, 3, act_cfg=dict(type="ReLU", inplace=False)).activate.inplace is False
    assert ConvModule(4, 6, 3, act_cfg=dict(type=nn.ReLU)).activate.inplace is True
    assert isinstance(ConvModule(4, 6, 3, act_cfg=dict(type=nn.GELU)).activate, nn.GELU)


def test_forward_can_leave_norm_and_activation_out(x):
    block = ConvModule(4, 6, 3, norm_cfg=BN).eval()
    y = block.conv(x)
    torch.testing.assert_close(block(x, activate=False, norm=False), y)
    torch.testing.assert_close(block(x, activate=False), block.bn(y))
    torch.testing.assert_close(block(x, norm=False), y.relu())


def test_norm_finds_what_replaced_it(x):
    block = nn.SyncBatchNorm.convert_sync_batchnorm(ConvModule(4, 6, 3, norm_cfg=BN))
    assert isinstance(block.norm, nn.SyncBatchNorm)
    assert block.norm is block.bn


def test_requires_grad_reaches_the_norm():
    block = ConvModule(4, 6, 3, norm_cfg=dict(type="BN", requires_grad=False))
    assert not block.bn.weight.requires_grad
    assert block.conv.weight.requires_grad


@pytest.mark.parametrize(
    ("act_cfg", "slope"), [(dict(type="ReLU"), 0.0), (dict(type="LeakyReLU", negative_slope=0.5), 0.5)]
)
def test_conv_starts_kaiming_for_its_activation(act_cfg, slope):
    torch.manual_seed(0)
    conv = ConvModule(32, 64, 3, act_cfg=act_cfg).conv
    assert conv.weight.std().item() == pytest.approx((2 / (1 + slope**2) / (64 * 9)) ** 0.5, rel=0.03)
    assert not conv.bias.any()


def test_spectral_norm_divides_by_the_largest_singular_value(x):
    block = ConvModule(4, 6, 3, with_spectral_norm=True, act_cfg=None)
    assert {"conv.weight_orig", "conv.weight_u", "conv.weight_v"} <= set(block.state_dict())
    for _ in range(200):
        block(x)
    assert torch.linalg.matrix_norm(block.conv.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(order=["conv", "nrm"]), r"order\[1\]: must be 'conv' or .*, got 'nrm'; did you mean 'norm'\?"),
        (dict(order=("norm", "act")), "order: .*must have 'conv', and nothing twice, got"),
        (dict(order=("conv", "act", "act")), "order: .*must have 'conv', and nothing twice, got"),
        (dict(norm_cfg=BN, order=("conv", "act")), r"norm_cfg: .*has no effect: order=\['conv', 'act'\] has no 'norm'"),
        (dict(act_cfg=dict(type="ReLU"), order=("conv",)), "act_cfg: .*has no effect"),
        (dict(norm_cfg=dict(type="BNN")), r"norm_cfg.type: unknown norm layer 'BNN'; did you mean 'BN'\?"),
        (
            dict(norm_cfg=dict(type="BN", eqs=1)),
            r"norm_cfg.eqs: BatchNorm2d has no argument 'eqs'; did you mean 'eps'\?",
        ),
        (dict(conv_cfg=dict(type="ConvSW")), r"conv_cfg.type: unknown conv layer 'ConvSW'; did you mean 'ConvWS'\?"),
        (dict(norm_cfg=dict(type="GN", num_groups=7)), "norm_cfg: .*divisible by num_groups"),
        (dict(conv_cfg=dict(type="DCNv2", deform_groups=3)), "conv_cfg.deform_groups: .*must divide"),
        (dict(act_cfg=dict(type="RelU6")), r"act_cfg.type: .*did you mean 'ReLU6'\?"),
        (dict(bias="aut"), r"bias: must be 'auto', got 'aut'; did you mean 'auto'\?"),
        (dict(padding_mode="reflct"), r"padding_mode: .*unknown padding mode 'reflct'; did you mean 'reflect'\?"),
        (
            dict(padding_mode="x"),
            "unknown padding mode 'x'; allowed: 'zeros', 'zero', 'reflect', 'replicate', 'circular'",
        ),
        (dict(padding_mode="reflect", conv_cfg=dict(type="Conv1d")), "padding_mode: .*must be 'zeros' for a Conv1d"),
        (dict(padding_mode="reflect", conv_cfg=dict(type="deconv")), "must be 'zeros' for a ConvTranspose2d"),
    ],
)
@pytest.mark.parametrize("through_registry", [True, False])
def test_mistakes_are_config_errors(arguments, message, through_registry):
    cfg = dict(type="ConvModule", out_channels=6, kernel_size=3, **arguments)
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(cfg, in_channels=4) if through_registry else ConvModule(4, 6, 3, **arguments)


def test_all_mistakes_come_at_once():
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*norm_cfg.type.*act_cfg.type"):
        ConvModule(4, 6, 3, norm_cfg=dict(type="BNN"), act_cfg=dict(type="Rel"))


def test_configs_stay_as_they_are():
    cfgs = dict(conv_cfg=dict(type="Conv2d"), norm_cfg=dict(type="BN", requires_grad=False), act_cfg=dict(type="ReLU"))
    before = copy.deepcopy(cfgs)
    ConvModule(4, 6, 3, **cfgs)
    assert cfgs == before


def test_is_traced_whole(x):
    block = ConvModule(
        4, 6, 3, norm_cfg=dict(type="FrozenBN"), conv_cfg=dict(type="ConvWS"), padding=1, padding_mode="reflect"
    )
    compiled = torch.compile(nn.Sequential(block, DropPath(0.0)), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), block(x))


def test_exports_copies_and_builds_on_meta(x):
    block = ConvModule(4, 6, 3, norm_cfg=BN, padding=1, padding_mode="circular").eval()
    program = torch.export.export(nn.Sequential(block), (x,))
    torch.testing.assert_close(program.module()(x), block(x))
    torch.testing.assert_close(copy.deepcopy(block)(x), block(x))
    with torch.device("meta"):
        assert ConvModule(4, 6, 3, norm_cfg=BN).conv.weight.is_meta
