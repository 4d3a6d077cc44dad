"""The builders: what every name gives, under which name a block holds it, and what a config must not say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from backbone_kit.errors import ConfigError
from backbone_kit.layers import (
    ACTIVATION_LAYERS,
    CONV_LAYERS,
    NORM_LAYERS,
    PADDING_LAYERS,
    PLUGIN_LAYERS,
    ConvModule,
    build_activation_layer,
    build_conv_layer,
    build_norm_layer,
    build_padding_layer,
    build_plugin_layer,
)
from backbone_kit.layers.plugin import plugin_abbreviation


def map_for(name: str, channels: int = 4) -> torch.Tensor:
    dims = next((d for d in (1, 3) if f"{d}d" in name), 2)
    return torch.randn(2, channels, *(7,) * dims)


@pytest.mark.parametrize("name", list(CONV_LAYERS))
def test_every_conv_name_builds_and_runs(name):
    x = map_for(name)
    y = build_conv_layer(dict(type=name), 4, 6, kernel_size=3, padding=1, bias=False)(x)
    assert y.shape == (2, 6, *x.shape[2:])


def test_no_conv_cfg_means_conv2d():
    layer = build_conv_layer(None, 3, 8, 3, stride=2)
    assert type(layer) is nn.Conv2d
    assert layer.stride == (2, 2)


NORM_ABBREVIATIONS = {
    **dict.fromkeys(("BN", "BN1d", "BN2d", "BN3d", "SyncBN", "MMSyncBN", "FrozenBN"), "bn"),
    **dict.fromkeys(("IN", "IN1d", "IN2d", "IN3d"), "in"),
    "GN": "gn",
    **dict.fromkeys(("LN", "LN2d"), "ln"),
    "EvoNormS0": "evo_norm",
    "FRN": "frn",
    "RMSNorm2d": "rms",
    "SimpleNorm2d": "simple_norm",
}
NORM_ARGUMENTS = {"GN": {"num_groups": 2}, "EvoNormS0": {"groups": 2}}


@pytest.mark.parametrize("name", list(NORM_ABBREVIATIONS))
def test_every_norm_name_builds_and_runs_under_its_short_name(name):
    cfg = dict(type=name, **NORM_ARGUMENTS.get(name, {}))
    given = torch.randn(2, 7, 4) if name == "LN" else map_for(name)
    short, layer = build_norm_layer(cfg, 4, postfix=2)
    assert short == f"{NORM_ABBREVIATIONS[name]}2"
    assert layer(given).shape == given.shape


def test_every_registered_norm_is_in_the_table_of_short_names():
    assert set(NORM_LAYERS) == set(NORM_ABBREVIATIONS)


@pytest.mark.parametrize(("postfix", "name"), [("", "bn"), (3, "bn3"), ("_a", "bn_a")])
def test_norm_postfix(postfix, name):
    assert build_norm_layer(dict(type="BN"), 4, postfix)[0] == name


def test_norm_short_name_of_foreign_classes():
    class MyGroupThing(nn.Module):
        def __init__(self, num_features: int) -> None:
            super().__init__()

    class Evo(MyGroupThing):
        pass

    class Named(Evo):
        _abbr_ = "evo"

    names = [build_norm_layer(dict(type=kind), 4)[0] for kind in (MyGroupThing, Evo, Named)]
    assert names == ["gn", "norm_layer", "evo"]


@pytest.mark.parametrize("cfg", [dict(type="BN"), dict(type="GN", num_groups=2)], ids=["BN", "GN"])
@pytest.mark.parametrize("wanted", [True, False, None])
def test_requires_grad_reaches_the_parameters(cfg, wanted):
    cfg = cfg if wanted is None else {**cfg, "requires_grad": wanted}
    parameters = list(build_norm_layer(cfg, 4)[1].parameters())
    assert parameters
    assert all(p.requires_grad is (wanted is not False) for p in parameters)


def test_norm_arguments_arrive():
    layer = build_norm_layer(dict(type="BN", eps=1e-3, momentum=0.03), 4)[1]
    assert (layer.eps, layer.momentum) == (1e-3, 0.03)


NEEDED = {
    "Threshold": dict(threshold=0.1, value=2.0),
    **{name: dict(dim=1) for name in ("GLU", "Softmax", "Softmin", "LogSoftmax")},
}


@pytest.mark.parametrize("name", list(ACTIVATION_LAYERS))
def test_every_activation_name_builds_and_runs(name):
    x = torch.randn(2, 4, 3, 3)
    channels = 2 if name == "GLU" else 4
    assert build_activation_layer(dict(type=name, **NEEDED.get(name, {})))(x).shape == (2, channels, 3, 3)


def test_every_activation_of_pytorch_has_a_name():
    names = set(torch.nn.modules.activation.__all__) - {"MultiheadAttention"}
    assert all(ACTIVATION_LAYERS.get(name) is getattr(nn, name) for name in names)


@pytest.mark.parametrize("name", sorted(set(ACTIVATION_LAYERS) - {"GLU"}))
@pytest.mark.parametrize("inplace", [True, False])
def test_inplace_reaches_the_activations_that_have_it_and_no_other(name, inplace):
    cfg = dict(type=name, **NEEDED.get(name, {}))
    layer = ConvModule(4, 4, 1, act_cfg=cfg, inplace=inplace).activate
    kind = ACTIVATION_LAYERS.get(name)
    known = {"ReLU", "LeakyReLU", "RReLU", "ReLU6", "ELU", "CELU", "SELU", "SiLU", "Mish", "Hardtanh", "Hardsigmoid"}
    assert hasattr(layer, "inplace") is (kind.__name__ in known | {"Hardswish", "Threshold"})
    assert getattr(layer, "inplace", inplace) is inplace
    x = torch.randn(2, 4, 3, 3)
    before = x.clone()
    layer(x)
    assert torch.equal(x, before) or getattr(layer, "inplace", False)


@pytest.mark.parametrize(
    ("cfg", "function"),
    [
        (dict(type="HSigmoid"), F.hardsigmoid),
        (dict(type="HSigmoid", bias=1.0, divisor=2.0), lambda x: ((x + 1) / 2).clamp(0, 1)),
        (dict(type="HSigmoid", min_value=0.25, max_value=0.5), lambda x: F.relu6(x + 3).div(6).clamp(0.25, 0.5)),
        (dict(type="HSwish"), F.hardswish),
        (dict(type="Swish"), F.silu),
        (dict(type="Clip"), lambda x: x.clamp(-1, 1)),
        (dict(type="Clamp", min=0, max=0.5), lambda x: x.clamp(0, 0.5)),
    ],
)
def test_activation_numbers(cfg, function):
    x = torch.linspace(-7, 7, 29)
    torch.testing.assert_close(build_activation_layer(cfg)(x), function(x))


def test_hsigmoid_refuses_to_divide_by_zero():
    with pytest.raises(ConfigError, match="divisor: HSigmoid: must not be 0"):
        build_activation_layer(dict(type="HSigmoid", divisor=0.0))


@pytest.mark.parametrize("name", list(PADDING_LAYERS))
def test_padding_numbers(name):
    x = torch.randn(1, 2, 5, 5)
    mode = "constant" if name == "zero" else name
    torch.testing.assert_close(build_padding_layer(dict(type=name), 2)(x), F.pad(x, (2, 2, 2, 2), mode=mode))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ContextBlock", "context_block"),
        ("SELayer", "se_layer"),
        ("NonLocal2d", "non_local2d"),
        ("HTMLParser", "html_parser"),
    ],
)
def test_plugin_short_name_is_snake_case(name, short):
    assert plugin_abbreviation(type(name, (), {})) == short


def test_plugin_postfixes_and_abbreviation():
    cfg = dict(type="ConvModule", out_channels=4, kernel_size=1)
    assert build_plugin_layer(cfg, in_channels=4)[0] == "conv_block"
    assert build_plugin_layer({**cfg, "postfix": "_b"}, postfix=1, in_channels=4)[0] == "conv_block1_b"


def test_arguments_of_a_plugin_may_stand_beside_its_config():
    layer = build_plugin_layer(dict(type="ConvModule"), in_channels=4, out_channels=4, kernel_size=3)[1]
    assert layer.conv.kernel_size == (3, 3)


@pytest.mark.parametrize(
    "cfg",
    [dict(type="ContextBlock", ratio=0.5), dict(type="NonLocal2d"), dict(type="GeneralizedAttention", num_heads=2)],
)
def test_a_plugin_says_for_how_many_channels_it_is(cfg):
    assert build_plugin_layer(cfg, in_channels=16)[1].in_channels == 16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: build_conv_layer(dict(type="Conv2D"), 3, 8, 3),
            r"type: unknown conv layer 'Conv2D'; did you mean 'Conv2d'\?",
        ),
        (lambda: build_conv_layer("Conv2d", 3, 8, 3), r"must be a dict with 'type', got 'Conv2d' \(str\)"),
        (
            lambda: build_conv_layer(dict(stride=2), 3, 8, 3),
            "'type' is missing: which conv layer; registered: .*Conv2d",
        ),
        (
            lambda: build_conv_layer(dict(type="Conv2d", bias=True), 3, 8, 3, bias=False),
            "bias: is set by the layer that uses this conv layer, to False; remove it",
        ),
        (
            lambda: build_conv_layer(dict(type="ConvWS", kernel_size=5), 3, 8, 3),
            "kernel_size: is set by the layer that uses this conv layer, to 3; remove it",
        ),
        (lambda: build_norm_layer(dict(type="BN", epsilon=1), 4), "BatchNorm2d has no argument 'epsilon'"),
        (lambda: build_norm_layer(dict(type="GN"), 4), "'num_groups' is missing; GroupNorm needs it"),
        (lambda: build_norm_layer(dict(type="GN", num_groups=3), 4), "GroupNorm: ValueError: num_channels"),
        (
            lambda: build_norm_layer(dict(type="BN", requires_grad="no"), 4),
            r"requires_grad: must be True or False, got 'no' \(str\)",
        ),
        (lambda: build_norm_layer(dict(type="Conv2d"), 4), "unknown norm layer 'Conv2d'"),
        (lambda: build_norm_layer(None, 4), "must be a dict with 'type', got None"),
        (
            lambda: build_norm_layer(dict(type="GN", num_groups=2, num_channels=4), 4),
            "num_channels: is set by the layer",
        ),
        (lambda: build_activation_layer(dict(type="LeakyRelu")), r"did you mean 'LeakyReLU'\?"),
        (
            lambda: build_activation_layer(dict(type="ReLU", inplac=True)),
            r"inplac: ReLU has no .* did you mean 'inplace'\?",
        ),
        (
            lambda: build_padding_layer(dict(type="reflct"), 1),
            r"unknown padding layer 'reflct'; did you mean 'reflect'\?",
        ),
        (lambda: build_norm_layer(dict(type="BN"), 4, postfix=[1]), r"postfix: must be an int or a string, got \[1\]"),
        (
            lambda: build_plugin_layer(dict(type="NonLocal2d"), postfix=1.5, in_channels=4),
            "postfix: must be an int or a string, got 1.5",
        ),
        (
            lambda: build_plugin_layer(dict(type="ConvModule"), in_channels=4, kernel_size=1),
            "'out_channels' is missing; ConvModule needs it",
        ),
        (
            lambda: build_plugin_layer(dict(type="ConvModule", kernel_size=1), in_channels=4, kernel_size=1),
            "kernel_size: is set by the layer that uses this plugin, to 1; remove it",
        ),
        (
            lambda: build_plugin_layer(dict(type="ConvModul"), in_channels=4),
            r"unknown plugin .* did you mean 'ConvModule'\?",
        ),
    ],
)
def test_mistakes_are_config_errors(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_configs_stay_as_they_are():
    cfgs = [
        dict(type="Conv2d", padding_mode="circular"),
        dict(type="GN", num_groups=2, requires_grad=False),
        dict(
            type="ConvModule",
            out_channels=4,
            kernel_size=1,
            postfix="_a",
            norm_cfg=dict(type="BN", requires_grad=False),
        ),
    ]
    before = copy.deepcopy(cfgs)
    build_conv_layer(cfgs[0], 3, 4, 1)
    build_norm_layer(cfgs[1], 4)
    build_plugin_layer(cfgs[2], in_channels=4)
    assert cfgs == before


def test_a_registered_class_can_be_given_as_a_class():
    assert isinstance(build_activation_layer(dict(type=nn.GELU)), nn.GELU)
    assert "ConvModule" in PLUGIN_LAYERS


@pytest.mark.parametrize(("device", "drawn"), [("cpu", 2), ("meta", 0)])
def test_weights_are_drawn_where_there_are_any(device: str, drawn: int) -> None:
    draws = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            draws.extend([func] if func in (nn.init.kaiming_uniform_, nn.init.uniform_) else [])
            return func(*args, **(kwargs or {}))

    with torch.device(device), Listening():
        conv = build_conv_layer(None, 3, 8, kernel_size=3)
    assert len(draws) == drawn
    assert {(name, tuple(p.shape), p.device.type) for name, p in conv.named_parameters()} == {
        ("weight", (8, 3, 3, 3), device),
        ("bias", (8,), device),
    }


def test_weights_are_torchs() -> None:
    torch.manual_seed(0)
    ours = build_conv_layer(None, 3, 8, kernel_size=3)
    torch.manual_seed(0)
    theirs = nn.Conv2d(3, 8, 3)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
