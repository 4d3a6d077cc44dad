"""init_cfg: distributions against their closed forms, the layers an entry reaches, every mistake with its message."""

from __future__ import annotations

import copy
import math
import time

import pytest
import torch
import torchvision
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import initialize


class Square(nn.Conv2d):
    """Two steps below Conv2d's base: names match over the whole MRO."""


class SquareChild(Square):
    pass


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(SquareChild(64, 64, 3), nn.Sequential(nn.Linear(64, 10)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


FAN_IN, FAN_OUT = 32 * 9, 64 * 9


@pytest.mark.parametrize(
    ("cfg", "std", "bound"),
    [
        (dict(type="Normal", mean=0.5, std=0.02), 0.02, None),
        (dict(type="Normal"), 1.0, None),
        (dict(type="Uniform", a=-3, b=3), 3 / 3**0.5, 3),
        (dict(type="Uniform"), 1 / 12**0.5, 1),
        (dict(type="TruncNormal", std=1.0), 0.8796, 2),  # variance of N(0, 1) within two sigma: 0.7737
        (dict(type="TruncNormal", std=1.0, a=-1, b=1), 0.5396, 1),
        (dict(type="Xavier"), (2 / (FAN_IN + FAN_OUT)) ** 0.5, None),
        (dict(type="Xavier", gain=2, distribution="uniform"), 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5, None),
        (dict(type="Kaiming"), (2 / FAN_OUT) ** 0.5, None),
        (dict(type="Kaiming", mode="fan_in", a=1, nonlinearity="leaky_relu"), (1 / FAN_IN) ** 0.5, None),
        (dict(type="Kaiming", distribution="uniform"), (2 / FAN_OUT) ** 0.5, (6 / FAN_OUT) ** 0.5),
        (dict(type="Caffe2Xavier"), (1 / FAN_IN) ** 0.5, (3 / FAN_IN) ** 0.5),
    ],
)
def test_distributions(cfg, std, bound, net):
    initialize(net, dict(**cfg, layer="Conv2d"))
    weight = net.conv1.weight.detach()
    center = cfg.get("mean", 0.5 if cfg == dict(type="Uniform") else 0)
    assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert weight.mean().item() == pytest.approx(center, abs=4 * std / weight.numel() ** 0.5)
    assert bound is None or (weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound)
    assert not net.conv1.bias.any()


def test_constant_and_bias(net):
    initialize(net, dict(type="Constant", val=2, bias=0.5, layer="Linear"))
    linear = net.layer1[1][0]
    assert (linear.weight == 2).all()
    assert (linear.bias == 0.5).all()


def test_bias_prob_is_the_prior_of_a_sigmoid(net):
    initialize(net, dict(type="Normal", std=0.01, bias_prob=0.01, layer="Conv2d"))
    torch.testing.assert_close(net.conv1.bias.sigmoid(), torch.full((64,), 0.01))
    assert net.conv1.bias[0].item() == pytest.approx(-math.log(99))


@pytest.mark.parametrize("layer", ["Conv2d", "_ConvNd", ["Conv2d"], ("Conv2d", "Square", "_ConvNd")])
def test_a_name_reaches_every_descendant(layer, net):
    initialize(net, dict(type="Constant", val=3, layer=layer))
    assert (net.conv1.weight == 3).all()
    assert (net.layer1[0].weight == 3).all()
    assert (net.bn1.weight == 1).all()
    assert not (net.layer1[1][0].weight == 3).any()


def test_a_subclass_name_leaves_the_base_alone(net):
    initialize(net, dict(type="Constant", val=3, layer="Square"))
    assert (net.layer1[0].weight == 3).all()
    assert not (net.conv1.weight == 3).any()


def test_entries_apply_in_order_and_other_nets_layers_are_fine_beside_one_that_matches(net):
    initialize(
        net,
        [
            dict(type="Constant", val=1, layer=["Conv2d", "Linear"]),
            dict(type="Constant", val=2, layer="Conv2d"),
            dict(type="Constant", val=5, layer=["_BatchNorm", "GroupNorm"]),
        ],
    )
    assert (net.conv1.weight == 2).all()
    assert (net.layer1[1][0].weight == 1).all()
    assert (net.bn1.weight == 5).all()


def test_override_reaches_the_whole_submodule(net):
    override = [dict(name="layer1", type="Constant", val=7, bias=1), dict(name="layer1.1.0", type="Constant", val=8)]
    initialize(net, dict(type="Constant", val=1, layer="Conv2d", override=override))
    assert (net.conv1.weight == 1).all()
    assert (net.layer1[0].weight == 7).all()
    assert (net.layer1[0].bias == 1).all()
    assert (net.layer1[1][0].weight == 8).all()
    assert not net.layer1[1][0].bias.any()


def test_override_with_a_name_alone_repeats_the_outer_initializer(net):
    initialize(net, dict(type="Constant", val=4, bias=2, layer="BatchNorm2d", override=dict(name="layer1.0")))
    assert (net.layer1[0].weight == 4).all()
    assert (net.layer1[0].bias == 2).all()
    assert not (net.conv1.weight == 4).any()


def test_override_without_layer(net):
    before = net.bn1.weight.clone()
    initialize(net, dict(type="Constant", val=4, override=dict(name="conv1")))
    assert (net.conv1.weight == 4).all()
    assert torch.equal(net.bn1.weight, before)


def test_layers_with_rules_of_their_own_have_the_last_word():
    class Offsets(nn.Conv2d):
        def init_weights(self) -> None:
            nn.init.zeros_(self.weight)

    class Root(nn.Sequential):
        def init_weights(self) -> None:
            raise AssertionError("the root's own is the caller")

    net = Root(nn.Conv2d(3, 3, 1), nn.Sequential(Offsets(3, 3, 1)))
    initialize(net, dict(type="Constant", val=4, layer="Conv2d"))
    assert (net[0].weight == 4).all()
    assert not net[1][0].weight.any()
    nn.init.ones_(net[1][0].weight)
    initialize(net, None)
    assert (net[0].weight == 4).all()
    assert not net[1][0].weight.any()


def test_layers_without_weights_are_left():
    net = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 3, 1, bias=False))
    initialize(net, dict(type="Constant", val=4, layer=["_BatchNorm", "Conv2d"]))
    assert (net[1].weight == 4).all()


def test_spectral_norm_does_not_hide_the_weight():
    conv = nn.utils.spectral_norm(nn.Conv2d(3, 3, 1))
    initialize(nn.Sequential(conv), dict(type="Constant", val=4, layer="Conv2d"))
    assert (conv.weight_orig == 4).all()


def test_the_config_stays_as_it_is(net):
    cfg = [
        dict(type="Normal", layer="Conv2d", override=[dict(name="layer1", type="Constant", val=1), dict(name="conv1")])
    ]
    before = copy.deepcopy(cfg)
    initialize(net, cfg)
    assert cfg == before


DEFAULT = [dict(type="Kaiming", layer="Conv2d"), dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"])]


def test_meta_device_is_nearly_free_and_still_checked():
    with torch.device("meta"):
        net = torchvision.models.resnet50()
    initialize(net, DEFAULT)
    start = time.perf_counter()
    initialize(net, DEFAULT)
    assert time.perf_counter() - start < 0.05  # about 1 ms
    with pytest.raises(ConfigError, match="no layer is a 'Conv2D'"):
        initialize(net, dict(type="Kaiming", layer="Conv2D"))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="Kaimin", layer="Conv2d"), r"^type: unknown initializer 'Kaimin'; did you mean 'Kaiming'\?"),
        (dict(type="Pretrained", checkpoint="x.pth"), "^type: unknown initializer 'Pretrained'"),
        (dict(layer="Conv2d"), "'type' is missing: which initializer; registered: Caffe2Xavier, Constant"),
        ("Kaiming", r"must be a dict with 'type', got 'Kaiming' \(str\)"),
        (dict(type="Normal"), "'layer' is missing: the class names of what to fill"),
        (dict(type="Normal", layer=[]), "'layer' is missing"),
        (dict(type="Normal", layer="Conv2D"), r"^layer: no layer is a 'Conv2D'; did you mean 'Conv2d'\?"),
        (dict(type="Normal", layer="GroupNorm"), "^layer: no layer is a 'GroupNorm'"),
        (
            dict(type="Normal", layer=["Conv2d", "BatchNrm2d"]),
            r"^layer: no .* 'BatchNrm2d'; did you mean 'BatchNorm2d'\?",
        ),
        (dict(type="Normal", layer="Xyzzy"), "no layer is a 'Xyzzy'; it has: BatchNorm2d, Conv2d, Linear, "),
        (dict(type="Normal", layer=3), "^layer: must be a string or a list .* or None, got 3"),
        (dict(type="Normal", layer="Conv2d", sdt=1), r"^sdt: normal has no argument 'sdt'; did you mean 'std'\?"),
        (dict(type="Constant", layer="Conv2d"), "'val' is missing; constant needs it"),
        (dict(type="Kaiming", layer="Conv2d", mode="fan_ou"), r"^mode: must be .* did you mean 'fan_out'\?"),
        (
            dict(type="Xavier", layer="Conv2d", distribution="gauss"),
            "^distribution: must be 'normal' or 'uniform', got",
        ),
        (dict(type="Normal", layer="Conv2d", bias="0"), r"^bias: must be a number, got '0' \(str\)"),
        (dict(type="Normal", layer="Conv2d", bias_prob=1.0), "^bias_prob: must be between 0 and 1, got 1.0"),
        (dict(type="Normal", layer="Conv2d", bias_prob=0.1, bias=0.0), "'bias' and 'bias_prob' are two ways"),
        (dict(type="Kaiming", layer="_BatchNorm"), r"cannot fill the weight of a BatchNorm2d, shape \(64,\)"),
        (dict(type="Normal", override=[dict(type="Normal")]), r"^override\[0\]: 'name' is missing"),
        (
            dict(type="Normal", override=dict(name="conv2")),
            r"^override.name: Net has no submodule 'conv2'; .* 'conv1'\?",
        ),
        (dict(type="Normal", override=dict(name=["conv1"])), r"^override.name: Net has no submodule \['conv1'\]"),
        (dict(type="Normal", override=dict(name="")), "^override.name: Net has no submodule ''"),
        (dict(type="Normal", override=dict(name="conv1", std=1)), "^override: 'type' is missing"),
        (dict(type="Normal", override=dict(name="conv1", type="Norml")), "^override.type: unknown initializer 'Norml'"),
        (
            dict(type="Normal", override=dict(name="conv1", type="Normal", layer="Conv2d")),
            "^override.layer: an override fills",
        ),
        (dict(type="Normal", override="conv1"), r"^override: must be a dict or a list .*, got 'conv1'"),
    ],
)
def test_mistakes_are_config_errors_and_change_nothing(cfg, message, net):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ConfigError, match=message):
        initialize(net, cfg)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_all_mistakes_of_all_entries_come_at_once(net):
    cfg = [dict(type="Normal", layer="Conv2D"), dict(type="Normal", layer="Linear", override=[dict(name="conv2")])]
    with pytest.raises(ConfigError) as caught:
        initialize(net, cfg)
    assert [problem.path for problem in caught.value.problems] == [(0, "layer"), (1, "override", 0, "name")]
