#!/usr/bin/env python
"""Train one of torchvision's detectors on one of our backbones to find shapes on photographs.

python examples/detect.py --cfg examples/configs/faster_rcnn_resnet.yaml
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torchvision.models.detection as detection
from evaluation import box_ap
from ranges import check_ranges
from run import main
from shapes_data import CLASSES
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from backbone_kit import Registry, build_backbone
from backbone_kit.adapters import anchors_for, as_torchvision

DETECTORS = Registry("detector")
POOLED = 5  # height and width of the map that Faster R-CNN takes of a box


@DETECTORS.register_module()
@dataclass(frozen=True)
class FasterRCNN:
    """torchvision's Faster R-CNN on a feature pyramid.

    Args:
        out_channels: Channels of the pyramid.
        head_channels: Channels of the box head.
        anchor_scale: Side of the smallest anchor of a map, in the map's pixels.
    """

    out_channels: int = 64
    head_channels: int = 256
    anchor_scale: float = 6

    def __post_init__(self) -> None:
        check_ranges(
            self,
            out_channels=(self.out_channels >= 1, "1 or more"),
            head_channels=(self.head_channels >= 1, "1 or more"),
            anchor_scale=(0 < self.anchor_scale < math.inf, "over 0 and finite"),
        )

    def build(self, cfg: Mapping[str, Any], size: int) -> nn.Module:
        backbone = as_torchvision(build_backbone(cfg, init=True), out_channels=self.out_channels)
        return detection.FasterRCNN(
            backbone,
            rpn_anchor_generator=anchors_for(backbone, scale=self.anchor_scale),
            box_roi_pool=MultiScaleRoIAlign(backbone.names, POOLED, sampling_ratio=2),
            box_head=TwoMLPHead(self.out_channels * POOLED**2, self.head_channels),
            box_predictor=FastRCNNPredictor(self.head_channels, len(CLASSES)),
            min_size=size,
            max_size=size,
            rpn_pre_nms_top_n_train=500,
            rpn_pre_nms_top_n_test=300,
            rpn_post_nms_top_n_train=200,
            rpn_post_nms_top_n_test=100,
            rpn_batch_size_per_image=64,
            box_batch_size_per_image=32,
        )


@DETECTORS.register_module()
@dataclass(frozen=True)
class RetinaNet:
    """torchvision's RetinaNet, whose backbone gives maps from stride 8 on.

    Args:
        out_channels: Channels of the pyramid and of the heads.
        anchor_scale: Side of the smallest anchor of a map, in the map's pixels.
    """

    out_channels: int = 64
    anchor_scale: float = 4

    def __post_init__(self) -> None:
        check_ranges(
            self,
            out_channels=(self.out_channels >= 1, "1 or more"),
            anchor_scale=(0 < self.anchor_scale < math.inf, "over 0 and finite"),
        )

    def build(self, cfg: Mapping[str, Any], size: int) -> nn.Module:
        backbone = as_torchvision(build_backbone(cfg, init=True), out_channels=self.out_channels, top="p6p7")
        anchors = anchors_for(backbone, scale=self.anchor_scale, octaves=3)
        return detection.RetinaNet(backbone, len(CLASSES), anchor_generator=anchors, min_size=size, max_size=size)


if __name__ == "__main__":
    sys.exit(main("detector", DETECTORS, box_ap))
