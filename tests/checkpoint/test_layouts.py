"""Weights of other libraries load here, compute the same, and go back as they came."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from backbone_kit import (
    BACKBONES,
    CheckpointError,
    build_backbone,
    build_from_cfg,
    convert_state_dict,
    detect_layout,
    load_checkpoint,
)
from backbone_kit.backbones import GhostNet

from . import key_tables
from .peers import randomised, relative_difference

R18 = dict(type="ResNet", depth=18)
GN = dict(type="GN", num_groups=8)


def torchvision_net(name: str, **options: Any) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **options)


def transformers_net(**options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**options))


def features(net: nn.Module, x: Tensor) -> Tensor:
    """The last map of a net of theirs."""
    if hasattr(net, "conv_stem"):  # GhostNet: what follows its last block belongs to the classifier
        return net.blocks[:9](net.act1(net.bn1(net.conv_stem(x))))
    if hasattr(net, "forward_features"):
        return net.forward_features(x)
    if hasattr(net, "resnet"):
        return net.resnet(x).last_hidden_state
    for name, child in net.named_children():
        if name == "avgpool":
            break
        x = child(x)
    return x


ONES = (1, 1, 1, 1)


def resnest_net() -> nn.Module:
    return pytest.importorskip("resnest.torch").resnest50()


PEERS = {
    "pypi-resnest50": (resnest_net, dict(type="ResNeSt", depth=50), "timm"),
    "timm-ghostnet": (partial(timm.create_model, "ghostnet_050"), dict(type="GhostNet", width=0.5), "timm"),
    "timm-regnetx": (partial(timm.create_model, "regnetx_002"), "regnetx_002", "timm"),
    "torchvision-regnet": (partial(torchvision_net, "regnet_x_400mf"), "regnetx_004_tv", "torchvision"),
    "torchvision-convnext": (partial(torchvision_net, "convnext_tiny"), "convnext_tiny", "torchvision"),
    "torchvision-resnext50": (partial(torchvision_net, "resnext50_32x4d"), "resnext50_32x4d", "torchvision"),
    "torchvision-resnet18": (partial(torchvision_net, "resnet18"), R18, "torchvision"),
    "torchvision-resnet18-gn": (
        partial(torchvision_net, "resnet18", norm_layer=partial(nn.GroupNorm, 8)),
        dict(R18, norm_cfg=GN),
        "torchvision",
    ),
    "timm-resnet50": (
        partial(timm.create_model, "resnet50"),
        dict(type="ResNet", depth=50),
        "torchvision",
    ),
    "timm-resnet18d": (partial(timm.create_model, "resnet18d"), dict(type="ResNetV1d", depth=18), "timm"),
    "timm-skresnet18": (
        partial(timm.create_model, "skresnet18"),
        dict(type="SKResNet", depth=18, rd_ratio=1 / 8, rd_divisor=16),
        "timm",
    ),
    "timm-skresnet50d": (
        partial(timm.create_model, "skresnet50d", layers=ONES),
        dict(type="SKResNet", depth=50, layers=ONES, deep_stem=True, avg_down=True),
        "timm",
    ),
    "timm-sk": (
        partial(timm.create_model, "resnet18", block_args=dict(attn_layer="sk")),
        dict(R18, attn_layer="sk"),
        "timm",
    ),
    "transformers-basic": (
        partial(transformers_net, depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic"),
        R18,
        "transformers",
    ),
    "transformers-bottleneck": (
        partial(transformers_net, depths=[3, 4, 6, 3]),
        dict(type="ResNet", depth=50),
        "transformers",
    ),
}


@pytest.mark.parametrize("case", PEERS)
def test_weights_load_and_compute_the_same_and_go_back(case: str) -> None:
    build, cfg, layout = PEERS[case]
    theirs = randomised(build())
    weights = theirs.state_dict()
    assert detect_layout(weights) == layout

    net = build_backbone(cfg).eval()
    report = load_checkpoint(net, weights)
    assert (report.missing, report.unexpected, report.wrong_shape) == ((), (), {})
    assert set(report.matched) == set(net.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(net(x)[-1], features(theirs, x)) < 1e-5

    converted = convert_state_dict(weights)
    assert set(net.state_dict()) <= set(converted)
    heads = {key: value for key, value in converted.items() if key not in net.state_dict()}
    back = convert_state_dict({**net.state_dict(), **heads}, source="mmdet", target=layout)
    assert sorted(back) == sorted(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)
    build().load_state_dict(back, strict=True)


@pytest.mark.parametrize("name", ["RMSNorm2d", "SimpleNorm2d"])
@torch.no_grad()
def test_weights_of_other_norms_of_timms_load_and_compute_the_same(name: str) -> None:
    theirs = timm.create_model("resnet18", norm_layer=name.lower()).eval()
    for weight in theirs.parameters():
        if weight.ndim == 1:
            nn.init.uniform_(weight, 0.5, 1.5)
    net = build_backbone(dict(R18, norm_cfg=dict(type=name))).eval()
    load_checkpoint(net, theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert relative_difference(net(x)[-1], features(theirs, x)) < 1e-5


def regnet_net(**options: Any) -> nn.Module:
    numbers = dict(depth=7, w0=24, wa=24.48, wm=1.8, group_size=8)
    return timm.models.regnet.RegNet(timm.models.regnet.RegNetCfg(**numbers, **options))


def torchvision_regnet_net() -> nn.Module:
    sizes = torchvision.models.regnet.BlockParams.from_init_params(
        depth=7, w_0=24, w_a=24.48, w_m=1.8, group_width=8, bottleneck_multiplier=0.5, se_ratio=0.25
    )
    return torchvision.models.RegNet(sizes)


def original_ghostnetv3() -> nn.Module:
    """A net of the original's names, with nothing but a state dict."""
    net = nn.Module()
    net.state_dict = lambda: convert_state_dict(GhostNet(0.5, "v3").state_dict(), target="ghostnet")
    return net


CONVERTED = {
    "timm-resnetv2": (partial(timm.create_model, "resnetv2_18"), "timm"),
    "timm-resnetv2-deep": (partial(timm.create_model, "resnetv2_18d"), "timm"),
    "timm-vgg": (partial(timm.create_model, "vgg11_bn", num_classes=10), "timm"),
    "torchvision-vgg": (partial(torchvision_net, "vgg13"), "torchvision"),
    "timm-regnetx": (partial(timm.create_model, "regnetx_002"), "timm"),
    "timm-regnety": (partial(timm.create_model, "regnety_002"), "timm"),
    "torchvision-regnet": (partial(torchvision_net, "regnet_y_400mf"), "torchvision"),
    "torchvision-convnext": (partial(torchvision_net, "convnext_tiny"), "torchvision"),
    "timm-convnext": (partial(timm.create_model, "convnext_atto"), "timm"),
    "timm-convnextv2": (partial(timm.create_model, "convnextv2_atto"), "timm"),
    "timm-hrnet": (partial(timm.create_model, "hrnet_w18_small"), "timm"),
    "timm-ghostnetv2": (partial(timm.create_model, "ghostnetv2_100"), "timm"),
    "timm-ghostnetv3": (partial(timm.create_model, "ghostnetv3_100"), "timm"),
    "timm-res2net": (partial(timm.create_model, "res2net50d"), "timm"),
    "timm-resnest": (partial(timm.create_model, "resnest50d_4s2x40d"), "timm"),
    "timm-seresnet": (partial(timm.create_model, "seresnet50"), "timm"),
    "timm-ecaresnet": (partial(timm.create_model, "ecaresnet50d"), "timm"),
    "timm-regnet-narrow": (partial(regnet_net, bottle_ratio=0.5), "timm"),
    "torchvision-regnet-narrow": (torchvision_regnet_net, "torchvision"),
    "timm-skresnet-pool": (partial(timm.create_model, "skresnet18", replace_stem_pool=True), "timm"),
    "ghostnetv3": (original_ghostnetv3, "ghostnet"),
    "timm-cbam": (partial(timm.create_model, "resnet18", block_args=dict(attn_layer="cbam")), "timm"),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_every_key_comes_back(case: str) -> None:
    build, layout = CONVERTED[case]
    weights = build().state_dict()
    assert detect_layout(weights) == layout
    ours = convert_state_dict(weights)
    assert len(ours) == len(weights)
    back = convert_state_dict(ours, source="mmdet", target=layout)
    assert sorted(back) == sorted(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return randomised(torchvision_net("resnet50"))


KEY_TABLES = {
    "detectron2": (partial(key_tables.detectron2, frozen=False), "detectron2", 1e-6),
    "detectron2-frozen": (partial(key_tables.detectron2, frozen=True), "detectron2", 1e-6),
    "caffe2-fused": (partial(key_tables.caffe2, fused=True), "caffe2", 1e-4),
    "caffe2": (partial(key_tables.caffe2, fused=False), "caffe2", 1e-6),
}


@pytest.mark.parametrize("case", KEY_TABLES)
def test_detectron2_and_caffe2_load_from_their_key_tables(case: str, resnet50: nn.Module) -> None:
    rename, layout, tolerance = KEY_TABLES[case]
    weights = rename(resnet50.state_dict())
    assert detect_layout(weights) == layout
    net = build_from_cfg(dict(type="ResNet", depth=50), BACKBONES).eval()
    report = load_checkpoint(net, weights)
    assert (report.missing, report.unexpected) == ((), ())
    assert sum(report.left_aside.values()) == 2
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(net(x)[-1], features(resnet50, x)) < tolerance
    ours = convert_state_dict(weights)
    back = convert_state_dict(ours, target=layout)
    assert sorted(back) == sorted(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)


def test_group_norms_of_caffe2_are_group_norms_here() -> None:
    blobs = {"conv1_w": torch.zeros(8, 3, 7, 7), "conv1_gn_s": torch.ones(8), "conv1_gn_b": torch.zeros(8)}
    blobs |= {"res2_0_branch2a_w": torch.zeros(8, 8, 1, 1), "res2_0_branch2a_gn_s": torch.ones(8)}
    ours = convert_state_dict(blobs)
    assert list(ours) == ["conv1.weight", "gn1.weight", "gn1.bias", "layer1.0.conv1.weight", "layer1.0.gn1.weight"]
    assert list(convert_state_dict(ours, target="caffe2")) == list(blobs)


def test_offsets_stand_beside_their_convolution_in_detectron2() -> None:
    cfg = dict(R18, dcn=dict(type="DCNv2", deform_groups=1), stage_with_dcn=(False, False, True, True))
    weights = build_from_cfg(cfg, BACKBONES).state_dict()
    theirs = convert_state_dict(weights, target="detectron2")
    assert theirs["res4.0.conv2_offset.bias"] is weights["layer3.0.conv2.conv_offset.bias"]
    net = build_from_cfg(cfg, BACKBONES)
    assert load_checkpoint(net, theirs).new == ()
    assert set(convert_state_dict(theirs)) == set(weights)


def test_offsets_are_new_to_weights_of_plain_convolutions() -> None:
    cfg = dict(R18, dcn=dict(type="DCNv2", deform_groups=1), stage_with_dcn=(False, False, True, True))
    report = load_checkpoint(build_from_cfg(cfg, BACKBONES), build_from_cfg(R18, BACKBONES).state_dict())
    assert len(report.new) == 8
    assert report.verdict == "120 of 120 served · 0 renamed · new: 8 keys, initialised by DCNv2 · left aside: nothing"


def test_output_norms_are_new_to_a_classifiers_weights_but_for_the_last() -> None:
    net = build_from_cfg(
        dict(
            type="ConvNeXt",
            arch="atto",
            out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False,
            layer_scale_init_value=0.0,
            use_grn=True,
        ),
        BACKBONES,
    )
    theirs = timm.create_model("convnextv2_atto").state_dict()
    report = load_checkpoint(net, theirs)
    assert report.new == tuple(f"norm{i}.{name}" for i in range(3) for name in ("weight", "bias"))
    assert report.renamed["norm3.weight"] == "head.norm.weight"
    assert report.left_aside == {"head.fc": 2}


def test_what_a_layout_cannot_hold_is_named() -> None:
    weights = build_from_cfg(R18, BACKBONES).state_dict()
    with pytest.raises(
        CheckpointError, match=r"caffe2's layout has no name for bn1\.num_batches_tracked, .* and 16 more"
    ):
        convert_state_dict(weights, target="caffe2")
    with pytest.raises(CheckpointError, match=r"neck\.conv\.weight: no such key in torchvision's layout of a ResNet"):
        convert_state_dict({**weights, "neck.conv.weight": torch.zeros(1)}, source="torchvision", target="timm")
    with pytest.raises(CheckpointError, match="has no keys of any layout here, only: a"):
        convert_state_dict({"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="has no keys of any layout here"):  # the first key is detectron2's, too
        detect_layout({"stem.conv1.weight": torch.zeros(1), "body.0.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unknown layout 'detectron'; .*did you mean 'detectron2'"):
        convert_state_dict(weights, target="detectron")
    instance = build_from_cfg(dict(R18, norm_cfg=dict(type="IN", affine=True)), BACKBONES).state_dict()
    with pytest.raises(CheckpointError, match=r"in1\.bias, .* would come back from timm's layout as gn1\.bias"):
        convert_state_dict(instance, target="timm")
    assert set(convert_state_dict(instance, target="mmpretrain")) == set(instance)


def test_a_part_of_a_detector_is_converted_alone() -> None:
    weights = build_from_cfg(R18, BACKBONES).state_dict()
    detector = {f"backbone.{key}": value for key, value in weights.items()} | {"neck.a": torch.zeros(1)}
    with pytest.raises(
        CheckpointError, match=r"neck\.a: no such key .*; pass prefix='backbone\.' to take the backbone"
    ):
        convert_state_dict(detector, target="detectron2")
    converted = convert_state_dict(detector, target="detectron2", prefix="backbone")
    assert set(converted) == set(convert_state_dict(weights, target="detectron2"))


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "backbone.body.",
        "backbone.bottom_up.",
        "encoder.model.",
        "_backbone.",
        "graph_module.",
        "module.encoder_q.",
    ],
)
def test_a_layout_is_found_behind_any_wrapper(prefix: str) -> None:
    weights = timm.create_model("resnet18d", num_classes=0).state_dict()
    wrapped = {prefix + key: value for key, value in weights.items()}
    assert detect_layout(wrapped) == "timm"
    net = build_backbone("resnet18_v1d")
    report = load_checkpoint(net, {**wrapped, "roi_heads.box.weight": torch.zeros(1), "pixel_mean": torch.zeros(3)})
    assert (report.layout, report.prefix, report.left_aside) == ("timm", prefix, {"roi_heads": 1, "pixel": 1})
    assert torch.equal(net.stem[7].bias, weights["bn1.bias"])
