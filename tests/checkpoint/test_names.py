"""Every model name that timm has, too, takes timm's weights: all keys served, and nothing left over."""

from __future__ import annotations

import pytest
import timm
import torch

from backbone_kit import build_backbone, list_backbones
from backbone_kit.checkpoint.load import examine

FAST = {"resnet18", "resnet50_gn", "convnext_tiny", "convnext_tiny_hnf", "convnextv2_atto", "hrnet_w18_small"}
FAST |= {
    "ghostnet_100",
    "ghostnetv2_100",
    "resnetrs50",
    "seresnet50",
    "resnetv2_50x1_bit",
    "ecaresnet50d",
    "res2net50d",
}
NAMES = [name for name in list_backbones() if timm.is_model(name)]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NAMES])
def test_timms_weights_fit_timms_names(name: str) -> None:
    with torch.device("meta"):
        report, _, _ = examine(build_backbone(name), timm.create_model(name).state_dict())
    assert (report.missing, report.optional, report.new, report.unexpected, report.wrong_shape) == ((), (), (), (), {})
    heads = {"fc", "head.fc", "head.norm", "head.pre_logits", "classifier", "conv_head", "blocks.9"}
    heads |= {"incre_modules", "downsamp_modules", "final_layer", "pre_logits", "head"}
    assert set(report.left_aside) <= heads
