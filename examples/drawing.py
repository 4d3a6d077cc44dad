"""Predictions on the pictures that they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from shapes_data import CLASSES
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

COLOURS = ("black", "red", "lime", "deepskyblue", "yellow")
ENLARGED = 2


def draw(pictures: Sequence[Tensor], predictions: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Pictures side by side, with boxes or masks on them, as (3, H, W) from 0 to 255.

    Args:
        pictures: Of one size, (3, H, W) from 0 to 1.
        predictions: For each picture, `boxes`, `labels` and `scores`, or `classes` of the pixels.
    """
    shown = []
    for picture, prediction in zip(pictures, predictions):
        large = (interpolate(picture[None], scale_factor=ENLARGED, mode="bilinear")[0] * 255).byte()
        if "boxes" in prediction:
            shown.append(_with_boxes(large, prediction))
        else:
            shown.append(_with_classes(large, prediction["classes"]))
    return make_grid(shown, nrow=min(len(shown), 6), pad_value=255)


def _with_boxes(picture: Tensor, prediction: Mapping[str, Tensor]) -> Tensor:
    sure = prediction["scores"] > 0.5
    if not sure.any():
        return picture
    labels = prediction["labels"][sure].tolist()
    names = [f"{CLASSES[i]} {score:.2f}" for i, score in zip(labels, prediction["scores"][sure].tolist())]
    boxes = prediction["boxes"][sure] * ENLARGED
    return draw_bounding_boxes(picture, boxes, names, [COLOURS[i] for i in labels], width=2)


def _with_classes(picture: Tensor, classes: Tensor) -> Tensor:
    large = classes.repeat_interleave(ENLARGED, 0).repeat_interleave(ENLARGED, 1)
    masks = torch.stack([large == i for i in range(1, len(CLASSES))])
    return draw_segmentation_masks(picture, masks, alpha=0.6, colors=list(COLOURS[1:]))
