"""A selective-kernel net of timm's name is timm's, equal at every level on timm's own weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from backbone_kit import ConfigError, build_backbone, list_backbones, load_checkpoint
from backbone_kit.backbones.sk_resnet import SKResNet
from backbone_kit.layers import DCNv2, SelectiveKernel

from .test_peers import randomized, relative_difference

NAMES = timm.list_models(module="sknet")
SLOW = ("skresnet34", "skresnet50", "skresnet50d")


def test_every_one_of_timm_has_its_name() -> None:
    assert len(NAMES) == 5
    assert set(NAMES) <= set(list_backbones())


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
@torch.no_grad()
def test_equals_timm(name: str) -> None:
    peer = randomized(timm.create_model(name))
    net = build_backbone(name).eval()
    assert not load_checkpoint(net, peer.state_dict()).unexpected
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    levels = peer.forward_intermediates(x, intermediates_only=True)[1:]
    assert relative_difference(net(x), levels) < 1e-5


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_output_stride_is_timms(depth: int, output_stride: int) -> None:
    layers = (1, 1, 2, 2)
    peer = randomized(timm.create_model(f"skresnet{depth}", layers=layers, output_stride=output_stride))
    options: dict[str, Any] = dict(rd_ratio=1 / 8, rd_divisor=16) if depth == 18 else {}
    net = SKResNet(depth, layers=layers, output_stride=output_stride, **options).eval()
    load_checkpoint(net, peer.state_dict())
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert relative_difference(net(x), peer.forward_intermediates(x, intermediates_only=True)[1:]) < 1e-5


def test_dcn_is_in_the_paths_of_the_stages_that_have_it() -> None:
    dcn = {"type": "DCNv2", "fallback_on_stride": True}
    net = SKResNet(50, layers=(1, 1, 1, 2), dcn=dcn, stage_with_dcn=(False, False, False, True), split_input=False)
    deformable = [name for name, module in net.named_modules() if isinstance(module, DCNv2)]
    assert deformable == ["layer4.1.conv2.paths.0.conv", "layer4.1.conv2.paths.1.conv"]
    assert net.eval()(torch.randn(1, 3, 64, 64))[3].shape == (1, 2048, 2, 2)


def test_types_of_layers_reach_the_kernels() -> None:
    net = SKResNet(50, layers=(1, 1, 1, 1), norm_cfg={"type": "GN", "num_groups": 8}, act_cfg={"type": "SiLU"})
    kinds = {type(module).__name__ for module in net.modules()}
    assert {"GroupNorm", "SiLU", "SelectiveKernel"} <= kinds
    assert not {"BatchNorm2d", "ReLU"} & kinds
    assert isinstance(net.layer1[0].conv2, SelectiveKernel)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(split_inputs=True), "SKResNet has no argument 'split_inputs'; did you mean 'split_input'"),
        (dict(aa_layer="avg"), "aa_layer: SKResNet has no argument 'aa_layer'"),
        (dict(drop_block_rate=0.1), "drop_block_rate: SKResNet has no argument 'drop_block_rate'"),
        (dict(rd_ratio=0), "rd_ratio: SKResNet: must be positive, got 0"),
        (
            dict(plugins=[{"cfg": {"type": "eca"}, "position": "after_norm2"}]),
            r"plugins\[0\]\.position: SKResNet: conv2, a SelectiveKernel, has its norm inside; use 'after_conv2'",
        ),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone({"type": "SKResNet", "depth": 50, **options})
