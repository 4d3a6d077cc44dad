#!/usr/bin/env python
"""Train UperNet of transformers or DeepLabV3 of torchvision on one of our backbones to segment shapes on photographs.

python examples/segment.py --cfg examples/configs/upernet_resnet.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from evaluation import mean_iou
from ranges import check_ranges
from run import main
from shapes_data import CLASSES
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.segmentation import deeplabv3
from torchvision.transforms.functional import normalize
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from backbone_kit import ConfigError, Registry, build_backbone
from backbone_kit.adapters import as_torchvision, as_transformers

HEADS = Registry("head")


class Segmenter(nn.Module):
    """A segmentation net that is trained and asked as torchvision's detectors are: by lists of pictures and targets.

    Args:
        net: From pictures (N, 3, H, W) to a mapping that has logits (N, K, H, W).
        key: Where it has them.
    """

    def __init__(self, net: nn.Module, key: str) -> None:
        super().__init__()
        self.net, self.key = net, key

    def forward(self, pictures: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        x = normalize(torch.stack(list(pictures)), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        logits = self.net(x)[self.key]
        if self.training:
            return dict(loss=cross_entropy(logits, torch.stack([target["classes"] for target in targets])))
        return [dict(classes=classes) for classes in logits.argmax(1)]


@HEADS.register_module()
@dataclass(frozen=True)
class UperNet:
    """UperNet of transformers, which takes maps of all strides.

    Args:
        hidden_size: Channels of its pyramid.
    """

    hidden_size: int = 64

    def __post_init__(self) -> None:
        check_ranges(self, hidden_size=(self.hidden_size >= 1, "1 or more"))

    def build(self, cfg: Mapping[str, Any], size: int) -> nn.Module:
        backbone = as_transformers(dict(backbone=cfg["backbone"]))
        config = UperNetConfig(
            backbone_config=backbone,
            hidden_size=self.hidden_size,
            num_labels=len(CLASSES),
            use_auxiliary_head=False,
            initializer_range=0.08,  # with its 0.02, a head that starts from nothing learns classes late
        )
        return Segmenter(UperNetForSemanticSegmentation(config), "logits")


@HEADS.register_module()
@dataclass(frozen=True)
class DeepLabV3:
    """torchvision's DeepLabV3, which takes one map, best of a backbone with `output_stride: 8`.

    Args:
        atrous_rates: Dilations of its three 3x3 convolutions.
    """

    atrous_rates: tuple[int, int, int] = (2, 4, 6)

    def __post_init__(self) -> None:
        check_ranges(self, atrous_rates=(min(self.atrous_rates, default=0) >= 1, "numbers from 1 on"))

    def build(self, cfg: Mapping[str, Any], size: int) -> nn.Module:
        net = build_backbone(cfg, init=True)
        if len(net.out_channels) != 1:
            raise ConfigError(
                f"DeepLabV3 takes one map, the backbone gives {len(net.out_channels)}; say out_indices: [3]"
            )
        head = deeplabv3.DeepLabHead(net.out_channels[0], len(CLASSES), self.atrous_rates)
        return Segmenter(deeplabv3.DeepLabV3(as_torchvision(net, fpn=False, names=("out",)), head), "out")


if __name__ == "__main__":
    sys.exit(main("head", HEADS, mean_iou))
