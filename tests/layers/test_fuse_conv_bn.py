"""Folding BatchNorms: the same numbers for every order and type, or nothing is folded. All of it in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from backbone_kit.backbones import ResNeSt, ResNet
from backbone_kit.errors import ConfigError
from backbone_kit.layers import (
    ConvModule,
    DepthwiseSeparableConvModule,
    SplitAttentionConv2d,
    build_conv_layer,
    build_norm_layer,
    freeze_batch_norms,
    fuse_conv_bn,
)
from backbone_kit.layers.frozen_batch_norm import FrozenBatchNorm2d

BN = dict(type="BN")
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def ready(net: nn.Module) -> nn.Module:
    """In float64 and eval, every norm off its start."""
    for module in net.modules():
        if isinstance(module, NORMS):
            for name, value in module.named_parameters():
                nn.init.uniform_(value, 0.5, 1.5) if name == "weight" else nn.init.normal_(value)
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.double().eval()


def norms_left(net: nn.Module, x: Tensor) -> int:
    """Fuses, compares, and counts the norms that are still there."""
    net = ready(net)
    state = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        before = net(x)
        fused = fuse_conv_bn(net, x)
        torch.testing.assert_close(fused(x), before, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(net(x), before, rtol=0, atol=0)
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert not any(module.training for module in fused.modules())
    return sum(isinstance(module, NORMS) for module in fused.modules())


def maps(channels: int = 4, dims: int = 2) -> Tensor:
    return torch.randn(2, channels, *(9, 8, 7)[:dims], dtype=torch.float64)


SHAPES: dict[str, dict[str, Any]] = {
    "plain": dict(stride=2, padding=1),
    "with_bias": dict(bias=True),
    "grouped": dict(groups=2, padding=2, dilation=2),
    "circular": dict(conv_cfg=dict(type="Conv2d", padding_mode="circular"), padding=1),
    "reflect": dict(padding_mode="reflect", padding=1),
    "ConvWS": dict(conv_cfg=dict(type="ConvWS"), padding=1, groups=2),
    "ConvAWS": dict(conv_cfg=dict(type="ConvAWS"), bias=True),
    "transposed": dict(conv_cfg=dict(type="deconv", output_padding=1), stride=2, groups=2),
    "adaptive": dict(conv_cfg=dict(type="Conv2dAdaptivePadding"), stride=2),
    "DCN": dict(conv_cfg=dict(type="DCN"), padding=1, groups=2),
    "DCNv2": dict(conv_cfg=dict(type="DCNv2", deform_groups=2), padding=1, bias=True),
    "FrozenBN": dict(norm_cfg=dict(type="FrozenBN")),
    "SyncBN": dict(norm_cfg=dict(type="SyncBN")),
    "without_affine": dict(norm_cfg=dict(type="BN", affine=False)),
    "another_eps": dict(norm_cfg=dict(type="BN", eps=0.3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_type_that_is_an_affine_map_is_folded(name: str) -> None:
    block = ConvModule(4, 6, 3, **{"norm_cfg": BN, **SHAPES[name]})
    if hasattr(block.conv, "conv_offset"):
        nn.init.normal_(block.conv.conv_offset.weight, std=0.3)
    assert norms_left(block, maps()) == 0


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_other_dimensions_are_folded(dims: int, kind: str) -> None:
    conv = getattr(nn, f"{kind}{dims}d")(4, 6, 3, groups=2, stride=2, bias=False)
    assert norms_left(nn.Sequential(conv, getattr(nn, f"BatchNorm{dims}d")(6)), maps(dims=dims)) == 0


@pytest.mark.parametrize(
    "order",
    [("conv", "norm", "act"), ("conv", "norm"), ("act", "conv", "norm")],
)
def test_orders_with_the_norm_right_behind_the_convolution_are_folded(order: tuple[str, ...]) -> None:
    assert norms_left(ConvModule(4, 4, 3, padding=1, norm_cfg=BN, order=order), maps()) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [("norm", "conv", "act"), ("norm", "act", "conv"), ("conv", "act", "norm")])
def test_other_orders_are_left_alone(order: tuple[str, ...]) -> None:
    assert norms_left(ConvModule(4, 4, 3, padding=1, norm_cfg=BN, order=order), maps()) == 1  # type: ignore[arg-type]


class Net(nn.Module):
    """Children in an order of its own, run as `run` says."""

    def __init__(self, run: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def conv(out: int = 4) -> nn.Conv2d:
    return nn.Conv2d(4, out, 3, padding=1)


def bn() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4)


def test_pairs_are_those_of_the_flow_not_of_the_order_of_children() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        return net.bn2(net.conv2(net.bn1(net.conv1(x)).relu()))

    net = Net(run, bn2=bn(), conv1=nn.Conv2d(4, 6, 1), conv2=nn.Conv2d(6, 4, 1), bn1=nn.BatchNorm2d(6))
    assert norms_left(net, maps()) == 0


LEFT: dict[str, tuple[Any, int]] = {
    "activation between": (Net(lambda n, x: n.bn(n.conv(x).relu()), conv=conv(), bn=bn()), 1),
    "in-place activation between": (nn.Sequential(conv(), nn.ReLU(inplace=True), bn()), 1),
    "sum between": (Net(lambda n, x: n.bn(n.conv(x) + x), conv=conv(), bn=bn()), 1),
    "read by a shortcut": (Net(lambda n, x: (y := n.conv(x)) + n.bn(y), conv=conv(), bn=bn()), 1),
    "read later": (Net(lambda n, x: n.bn(y := n.conv(x)) + y.mean(), conv=conv(), bn=bn()), 1),
    "read through a view": (Net(lambda n, x: n.bn(y := n.conv(x)) + y[:, :1], conv=conv(), bn=bn()), 1),
    "part of the output": (Net(lambda n, x: {"raw": (y := n.conv(x)), "normed": n.bn(y)}, conv=conv(), bn=bn()), 1),
    "one convolution, two norms": (
        Net(lambda n, x: n.a(n.conv(x)) + n.b(n.conv(x * 2)), conv=conv(), a=bn(), b=bn()),
        2,
    ),
    "one map, two norms": (Net(lambda n, x: n.a(y := n.conv(x)) + n.b(y), conv=conv(), a=bn(), b=bn()), 2),
    "two convolutions, one norm": (Net(lambda n, x: n.bn(n.a(x)) + n.bn(n.b(x)), a=conv(), b=conv(), bn=bn()), 1),
    "norm of the input too": (Net(lambda n, x: n.bn(n.conv(n.bn(x))), conv=conv(), bn=bn()), 1),
    "never run": (Net(lambda n, x: n.conv(x), conv=conv(), bn=bn()), 1),
}


@pytest.mark.parametrize("name", LEFT)
def test_norms_of_maps_that_something_else_reads_are_left_alone(name: str) -> None:
    net, left = LEFT[name]
    assert norms_left(net, maps()) == left


def test_a_pair_that_runs_twice_is_folded_once() -> None:
    net = Net(lambda n, x: n.bn(n.conv(n.bn(n.conv(x)))), conv=conv(), bn=bn())
    assert norms_left(net, maps()) == 0


def test_layers_that_do_nothing_in_eval_may_stand_between() -> None:
    assert norms_left(nn.Sequential(conv(), nn.Dropout(0.5), nn.Identity(), bn()), maps()) == 0


class Doubled(nn.Conv2d):
    """A subclass with another forward."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Activated(nn.BatchNorm2d):
    """A norm with an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def heard(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: output * 2)
    return layer


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (Doubled(4, 4, 1), bn()),
        lambda: (conv(), Activated(4)),
        lambda: (heard(conv()), bn()),
        lambda: (conv(), heard(bn())),
        lambda: (weight_norm(conv()), bn()),
        lambda: (nn.utils.spectral_norm(conv()), bn()),
        lambda: (build_conv_layer(dict(type="RFConv"), 4, 4, 3, padding=1), bn()),
        lambda: (timm.layers.StdConv2d(4, 4, 3), bn()),
        lambda: (conv(), nn.BatchNorm2d(4, track_running_stats=False)),
    ],
)
def test_layers_that_compute_something_else_are_left_alone(layers: Any) -> None:
    net = nn.Sequential(*layers())
    net(torch.randn(1, 4, 9, 9))  # spectral norm draws its vectors in the first forward
    assert norms_left(net, maps()) == 1


def test_weights_that_two_layers_share_are_not_changed_for_the_other() -> None:
    one, other = conv(), conv()
    other.weight = one.weight
    assert norms_left(nn.Sequential(one, bn(), other), maps()) == 0


def test_nested_blocks_are_folded_all_over() -> None:
    net = nn.Sequential(
        DepthwiseSeparableConvModule(4, 8, 3, norm_cfg=BN), SplitAttentionConv2d(8, 8, 3, padding=1, groups=2)
    )
    assert norms_left(net, maps()) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResNet(18),
        lambda: ResNet(50, avg_down=True, deep_stem=True, num_stages=2),
        lambda: ResNeSt(14, groups=2, base_width=40),
        lambda: freeze_batch_norms(ResNet(18, num_stages=3)),
        lambda: ResNet(18, num_stages=2, conv_cfg=dict(type="ConvWS")),
        lambda: torchvision.models.mobilenet_v2(weights=None).features,
    ],
)
def test_whole_nets_lose_all_of_theirs(make: Any) -> None:
    assert norms_left(make(), torch.randn(1, 3, 64, 64, dtype=torch.float64)) == 0


def test_it_equals_pytorchs_own_folding_of_one_pair() -> None:
    one, norm = ready(conv()), ready(bn())
    theirs = torch.nn.utils.fuse_conv_bn_eval(one, norm)
    ours = fuse_conv_bn(nn.Sequential(one, norm))[0]
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_what_is_frozen_stays_frozen_and_half_stays_half() -> None:
    net = nn.Sequential(conv().requires_grad_(False), bn()).to(torch.bfloat16)
    fused = fuse_conv_bn(net)[0]
    assert (fused.weight.dtype, fused.bias.dtype) == (torch.bfloat16, torch.bfloat16)
    assert not any(parameter.requires_grad for parameter in fused.parameters())


def test_it_runs_on_the_meta_device() -> None:
    with torch.device("meta"):
        net = ResNet(18)
    assert not any(isinstance(module, NORMS) for module in fuse_conv_bn(net).modules())


def test_without_a_2d_convolution_an_example_is_needed() -> None:
    with pytest.raises(ConfigError, match="example: is needed: there is no 2-d convolution"):
        fuse_conv_bn(nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)))


@pytest.mark.parametrize("name", ["BN", "SyncBN", "FrozenBN", "GN", "IN", "LN2d"])
def test_no_other_norm_is_touched(name: str) -> None:
    cfg = dict(type=name, num_groups=2) if name == "GN" else dict(type=name)
    norm = build_norm_layer(cfg, 4)[1]
    folds = isinstance(norm, NORMS)
    net = ready(nn.Sequential(conv(), norm))
    x = maps()
    fused = fuse_conv_bn(net, x)
    assert isinstance(fused[1], nn.Identity if folds else type(norm))
    torch.testing.assert_close(fused(x), net(x))
