"""Every user mistake ends in one message that says where, what, what is allowed and what to do."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from backbone_kit import ConfigError, build_backbone
from backbone_kit.backbones import ResNet
from backbone_kit.backbones.blocks import BasicBlock, Bottleneck
from backbone_kit.backbones.resnet_v1 import ResNetV1c

R18: dict[str, Any] = {"type": "ResNet", "depth": 18}
R50: dict[str, Any] = {"type": "ResNet", "depth": 50}
GCB = {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv3"}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"type": "ResNett", "depth": 50}, "model.backbone.type: unknown backbone 'ResNett'; did you mean 'ResNet'?"),
    ({"type": "CSPNeXt"}, "model.backbone.type: unknown backbone 'CSPNeXt'; registered: ConvNeXt, "),
    ({"type": "HourglassNet"}, "model.backbone.type: unknown backbone 'HourglassNet'; registered: "),
    ({"depth": 50}, "model.backbone: 'type' is missing"),
    ({"type": "ResNet", "dept": 50}, "model.backbone.dept: ResNet has no argument 'dept'; did you mean 'depth'?"),
    ({"type": "ResNet"}, "model.backbone: 'depth' is missing; ResNet needs it"),
    ({**R50, "depth": "50"}, "model.backbone.depth: must be an int, got '50' (str)"),
    ({**R50, "depth": 51}, "model.backbone.depth: ResNet: must be one of 10, 14, 18, 26, 34, 50, 101, 152, 200, 269, 270, 350, 420, got 51"),
    ({**R50, "strides": (1, 2, 2)}, "model.backbone.strides: ResNet: needs 4 values, one a stage, got (1, 2, 2)"),
    ({**R50, "num_stages": 5}, "model.backbone.num_stages: ResNet: must be from 1 to 4, got 5"),
    ({**R50, "frozen_stages": 9}, "model.backbone.frozen_stages: ResNet: must be from -1 (nothing) over 0 (the stem) to 4"),
    ({**R50, "frozen_stages": -5}, "model.backbone.frozen_stages: ResNet: must be from -1"),
    ({**R50, "style": "caffee"}, "model.backbone.style: must be 'pytorch' or 'caffe', got 'caffee'; did you mean 'caffe'?"),
    ({**R18, "style": "torch"}, "model.backbone.style: must be 'pytorch' or 'caffe', got 'torch'"),
    ({**R50, "out_indices": ()}, "model.backbone.out_indices: ResNet: must name at least one stage, from 0 to 3, got ()"),
    ({**R50, "out_indices": (4,)}, "model.backbone.out_indices: ResNet: 4 is out of range: the 4 stages are 0 to 3"),
    ({**R50, "out_indices": (1, 2, 3, 4)}, "timm counts the stem as 0, so that its (1, 2, 3, 4) is (0, 1, 2, 3) here"),
    ({**R50, "out_indices": (-5,)}, "-5 is out of range"),
    ({**R50, "out_indices": (1, -3)}, "model.backbone.out_indices: ResNet: names a stage twice: (1, -3)"),
    ({**R50, "out_indices": 3}, "model.backbone.out_indices: must be a list (an int each) or None, got 3 (int)"),
    ({**R50, "norm_eval": 1}, "model.backbone.norm_eval: must be True or False, got 1 (int)"),
    ({**R50, "norm_cfg": {"type": "BM"}}, "model.backbone.norm_cfg.type: unknown norm layer 'BM'"),
    ({**R50, "norm_cfg": {"type": "BN", "esp": 1e-3}}, "model.backbone.norm_cfg.esp: BatchNorm2d has no argument 'esp'; did you mean 'eps'?"),
    ({**R50, "norm_cfg": {"type": "GN"}}, "model.backbone.norm_cfg: 'num_groups' is missing; GroupNorm needs it"),
    ({**R50, "norm_cfg": {"type": "Conv2d"}}, "model.backbone.norm_cfg.type: unknown norm layer 'Conv2d'"),
    ({**R50, "conv_cfg": {"type": "ConvSW"}}, "unknown conv layer 'ConvSW'; did you mean 'ConvWS'?"),
    ({**R50, "act_cfg": {"type": "Relu"}}, "unknown activation layer 'Relu'; did you mean 'ReLU'?"),
    ({**R50, "dcn": {"type": "DCN"}}, "model.backbone.dcn: ResNet: needs stage_with_dcn to say in which stages"),
    ({**R50, "stage_with_dcn": (False, True, True, True)}, "model.backbone.stage_with_dcn: ResNet: needs dcn to say which"),
    ({**R50, "dcn": {"type": "DCN"}, "stage_with_dcn": (True,)}, "model.backbone.stage_with_dcn: ResNet: needs 4 values"),
    ({**R50, "dcn": {"type": "DCN", "fallback_on_strid": True}, "stage_with_dcn": (True,) * 4}, "DCN has no argument 'fallback_on_strid'"),
    ({**R50, "dcn": {"type": "DCN", "fallback_on_stride": "no"}, "stage_with_dcn": (True,) * 4}, "model.backbone.dcn.fallback_on_stride: must be True or False, got 'no'"),
    ({**R50, "layers": [1, 2]}, "model.backbone.layers: ResNet: needs 4 values, one a stage, got (1, 2)"),
    ({**R50, "attn_layer": "see"}, "model.backbone.attn_layer.type: ResNet: unknown plugin 'see'; did you mean 'se'?"),
    ({**R50, "base_width": 0}, "model.backbone.base_width: ResNet: 0 leaves no channels at 64 planes"),
    ({**R50, "planes": [64, 128, 0, 512]}, "model.backbone.planes[2]: ResNet: must be 1 or more, got 0"),
    ({**R50, "stem_width": 32}, "model.backbone.stem_width: ResNet: is for deep stems; set stem_type='deep'"),
    ({**R50, "depth": 18, "cardinality": 32}, "model.backbone.cardinality: ResNet: is for bottlenecks"),
    ({**R50, "type": "ResNeXt", "groups": 0}, "model.backbone.groups: ResNeXt: must be 1 or more, got 0"),
    ({**R50, "type": "ResNeXt", "base_width": 8}, "model.backbone.base_width: ResNeXt: 8 has no effect with groups=1"),
    ({**R50, "type": "ResNeXt", "cardinality": 8}, "model.backbone.cardinality: ResNeXt has no argument 'cardinality'"),
    ({**R50, "type": "ResNet_CIFAR", "deep_stem": True}, "model.backbone.deep_stem: must be False, got True"),
    ({**R50, "type": "Res2Net", "scales": 1}, "model.backbone.scales: Res2Net: must be 2 or more, got 1"),
    ({**R50, "plugins": [{**GCB, "position": "after_conv4"}]}, "model.backbone.plugins[0].position: must be 'after_norm1' or 'after_conv1' or 'after_norm2' or 'after_conv2' or 'after_conv3', got 'after_conv4'"),
    ({**R18, "plugins": [GCB]}, "model.backbone.plugins[0].position: ResNet: must be 'after_norm1' or 'after_conv1' or 'after_conv2' in a BasicBlock"),
    ({**R50, "plugins": [GCB, GCB]}, "a block has one child 'context_block' already; tell plugins of one type apart with postfix='_2'"),
    ({**R50, "plugins": [{**GCB, "stages": (True,)}]}, "model.backbone.plugins[0].stages: ResNet: needs 4 values, one a stage, got (True,)"),
    ({**R50, "plugins": [{**GCB, "stage": (True,) * 4}]}, "model.backbone.plugins[0].stage: unknown key 'stage'; did you mean 'stages'?"),
    ({**R50, "plugins": [{"cfg": GCB["cfg"]}]}, "model.backbone.plugins[0]: 'position' is missing"),
    ({**R50, "plugins": [{"position": "after_conv3"}]}, "model.backbone.plugins[0]: 'cfg' is missing"),
    ({**R50, "plugins": [{**GCB, "cfg": {"type": "ContextBlok", "ratio": 0.25}}]}, "model.backbone.plugins[0].cfg.type: unknown plugin 'ContextBlok'; did you mean 'ContextBlock'?"),
    ({**R50, "plugins": GCB}, "model.backbone.plugins: must be a list (a dict each) or None"),
    ({**R50, "pretrained": "a.pth", "init_cfg": {"type": "Pretrained", "checkpoint": "b.pth"}}, "model.backbone.pretrained: ResNet: got both pretrained='a.pth' and init_cfg"),
    ({**R50, "init_cfg": {"type": "Kaming", "layer": "Conv2d"}}, "model.backbone.init_cfg.type: unknown initializer 'Kaming'; did you mean 'Kaiming'?"),
    ({**R50, "init_cfg": [{"type": "Pretrained", "checkpont": "a"}]}, "model.backbone.init_cfg[0].checkpont: Pretrained has no argument 'checkpont'; did you mean 'checkpoint'?"),
    ({**R50, "multi_grid": (1, 2)}, "model.backbone.multi_grid: ResNet: needs 3 dilations, one a block of the last stage, got (1, 2)"),
    ({**R50, "strides": (1, 2, 2, 0)}, "model.backbone.strides[3]: ResNet: must be 1 or more, got 0"),
    ({**R50, "dilations": (1, 1, 1, -1)}, "model.backbone.dilations[3]: ResNet: must be 1 or more, got -1"),
    ({**R50, "multi_grid": (1, 0, 1)}, "model.backbone.multi_grid[1]: ResNet: must be 1 or more, got 0"),
    ({**R50, "in_channels": 0}, "model.backbone.in_channels: ResNet: must be 1 or more, got 0"),
    ({**R50, "base_channels": 0}, "model.backbone.base_channels: ResNet: must be 1 or more, got 0"),
    ({**R50, "stem_channels": 0}, "model.backbone.stem_channels: ResNet: must be 1 or more, got 0"),
    ({**R50, "stem_channels": 1, "deep_stem": True}, "model.backbone.stem_channels: ResNet: must be 2 or more, got 1"),
    ({**R50, "drop_path_rate": 1.5}, "model.backbone.drop_path_rate: ResNet: must be from 0 to less than 1, got 1.5"),
    ({**R50, "norm_cfg": {}}, "model.backbone.norm_cfg: 'type' is missing"),
    ({**R50, "init_cfg": [{"type": "Pretrained", "checkpoint": "a"}] * 2}, "model.backbone.init_cfg: ResNet: names 2 checkpoints; keep one"),
    ({**R50, "norm_cfg": {"type": "LN"}}, "model.backbone.norm_cfg.type: 'LN' is no norm layer for maps (N, C, H, W)"),
    ({**R50, "norm_cfg": {"type": "BN1d"}}, "model.backbone.norm_cfg.type: 'BN1d' is no norm layer for maps (N, C, H, W)"),
    ({**R50, "conv_cfg": {"type": "deconv"}}, "model.backbone.conv_cfg.type: 'deconv' is no conv layer for maps (N, C, H, W)"),
    ({**R50, "dcn": {"type": "Conv2d"}, "stage_with_dcn": (True,) * 4}, "model.backbone.dcn.type: 'Conv2d' is not deformable; use 'DCN' or 'DCNv2'"),
    ({**R50, "dcn": {"type": "DCN", "deform_groups": 3}, "stage_with_dcn": (True,) * 4}, "model.backbone.dcn.deform_groups: ResNet: DCN: must divide `in_channels` (=64), got 3"),
    ({**R50, "conv_cfg": {"type": "Conv2d", "bias": True}}, "model.backbone.conv_cfg.bias: ResNet: is set by the layer that uses this conv layer"),
    ({**R50, "norm_cfg": {"type": "GN", "num_groups": 7}}, "model.backbone.norm_cfg: ResNet: GroupNorm: ValueError: num_channels"),
    ({**R50, "plugins": [GCB, {**GCB, "cfg": {"type": "ContextBlock", "ratio": -1.0}}]}, "model.backbone.plugins[1].cfg.ratio: ResNet: ContextBlock:"),
    ({**R50, "plugins": [{**GCB, "stages": (True, False, False, False)}, *[{**GCB, "stages": (False, False, False, True)}] * 2]}, "model.backbone.plugins[2].cfg: ResNet: a block has one child 'context_block' already"),
    ({**R50, "output_stride": 16, "num_stages": 2}, "model.backbone.output_stride: ResNet: cannot be 16: 2 stages reach 8"),
    ({**R50, "output_stride": 12}, "model.backbone.output_stride: must be 8 or 16 or 32 or None, got 12"),
    ({**R50, "output_stride": 8, "strides": (1, 2, 1, 1)}, "model.backbone.output_stride: ResNet: sets strides and dilations; remove those"),
    ({"type": "os.getcwd"}, "model.backbone.type: unknown backbone 'os.getcwd'"),
    ({"type": "torch.nn.Conv2d"}, "an import path needs custom_imports=dict(imports=['torch.nn'])"),
]  # fmt: skip


@pytest.mark.parametrize(("backbone", "message"), MISTAKES)
def test_the_message_says_it(backbone: dict[str, Any], message: str) -> None:
    cfg = {"model": {"type": "FasterRCNN", "backbone": backbone}}
    before = copy.deepcopy(cfg)
    with pytest.raises(ConfigError, match=re.escape(message)):
        build_backbone(cfg)
    assert cfg == before


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone({"type": "ResNet", "dept": 50, "style": "cafe", "norm_cfg": {"type": "BM"}})
    assert len(caught.value.problems) == 4
    assert str(caught.value).startswith("4 problems:\n  dept: ResNet has no argument")


def test_the_file_and_line_of_the_value_are_named(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("backbone:\n  type: ResNet\n  depth: 50\n  norm_cfg:\n    type: BM\n")
    path = tmp_path / "net.yaml"
    path.write_text("_base_: base.yaml\nbackbone:\n  frozen_stages: 1\n  stylle: caffe\n")
    with pytest.raises(ConfigError) as caught:
        build_backbone(path)
    assert re.search(r"base\.yaml:5: backbone\.norm_cfg\.type: unknown norm layer 'BM'", str(caught.value))
    assert re.search(r"net\.yaml:4: backbone\.stylle: ResNet has no argument 'stylle'", str(caught.value))


def test_what_a_constructor_refuses_has_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("type: ResNet\ndepth: 50\n\nfrozen_stages: 9\n")
    with pytest.raises(ConfigError, match=r"net\.yaml:4: frozen_stages: ResNet: must be from -1"):
        build_backbone(str(path))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_blocks_refuse_it_too(block: type[BasicBlock | Bottleneck]) -> None:
    with pytest.raises(ConfigError, match="style: must be 'pytorch' or 'caffe', got 'torch'"):
        block(64, 64, style="torch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="init_cfg: a block takes no init_cfg; give it to the backbone"):
        block(64, 64, init_cfg={"type": "Normal"})  # type: ignore[arg-type]
    for entry in (GCB["cfg"], {"position": "after_conv2"}, {"cfg": GCB["cfg"]}, "ContextBlock"):
        with pytest.raises(ConfigError, match=r"plugins\[1\]: must be a dict with 'cfg' and 'position', got"):
            block(64, 64, plugins=[None, entry])  # type: ignore[list-item]


def test_built_without_a_config_the_messages_are_the_same() -> None:
    for arguments, message in (
        ({"depth": "50"}, r"depth: must be an int, got '50' \(str\)"),
        ({"depth": 50, "out_indices": 3}, r"out_indices: must be a list"),
        ({"depth": 50, "deep_stem": "False"}, r"deep_stem: must be True or False, got 'False'"),
        ({"depth": 50, "norm_cfg": "BN"}, r"norm_cfg: must be a dict or None, got 'BN'"),
        ({"depth": 50, "plugins": [{"cfg": GCB["cfg"]}]}, r"plugins\[0\]: 'position' is missing"),
        ({"dept": 50}, r"dept: ResNet has no argument 'dept'; did you mean 'depth'\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            ResNet(**arguments)
    with pytest.raises(ConfigError, match=r"in_channels: must be an int, got '3' \(str\)"):
        ResNetV1c(50, "3")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="depth: must be one of 10, 14, 18, 26, 34, 50, 101, 152, 200, 269, 270, 350, 420, got 51"
    ):
        ResNet(51)
    with pytest.raises(ConfigError, match="frozen_stages: must be from -1"):
        ResNet(50, frozen_stages=5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.rand(3, 32, 32),
            r"ResNet takes pictures \(N, C, H, W\), got a tensor of shape \(3, 32, 32\); a single one",
        ),
        (
            torch.ones(1, 3, 32, 32, dtype=torch.uint8),
            "ResNet takes pictures of a floating dtype, got torch.uint8; normal",
        ),
    ],
)
def test_what_is_no_picture_is_told(x: torch.Tensor, message: str) -> None:
    net = ResNet(18, layers=(1,) * 4, base_channels=8).eval()
    with pytest.raises((TypeError, ValueError), match=message):
        net(x)
    with pytest.raises((TypeError, ValueError), match=message):
        net.forward_intermediates(x)
