"""What a prediction is worth: COCO's AP of boxes, and the mean IoU of pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapes_data import CLASSES
from torch import Tensor
from torchvision.ops import box_convert


def box_ap(predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """COCO's average precision, by pycocotools: the mean over IoUs from 0.5 to 0.95, and those at 0.5 and 0.75.

    Args:
        predictions: For each picture, `boxes` (K, 4) as corners in pixels, `labels` (K,) and `scores` (K,).
        targets: For each picture, its true `boxes` and `labels`.
    """
    truth, found = _entries(targets), _entries(predictions)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools says much
        coco = COCO()
        coco.dataset = dict(
            images=[dict(id=i) for i in range(len(targets))],
            categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES) if i],
            annotations=truth,
        )
        coco.createIndex()
        if not found:
            return dict(AP=0.0, AP50=0.0, AP75=0.0)
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("AP", "AP50", "AP75"), map(float, evaluation.stats)))


def mean_iou(predictions: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Intersection over union of each class's pixels in all pictures together; the mean over those that occur, first.

    Args:
        predictions: For each picture, `classes` (H, W), the class of each pixel.
        targets: The same, as it is.
    """
    seen, true = (torch.cat([each["classes"].flatten() for each in side]) for side in (predictions, targets))
    pairs = torch.bincount(true * len(CLASSES) + seen, minlength=len(CLASSES) ** 2).view(len(CLASSES), -1).double()
    union = pairs.sum(0) + pairs.sum(1) - pairs.diag()
    each = {name: float(pairs[i, i] / union[i]) for i, name in enumerate(CLASSES) if union[i]}
    return dict(mIoU=sum(each.values()) / len(each), **each)


def _entries(pictures: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Any]]:
    """Boxes as COCO's files have them."""
    entries: list[dict[str, Any]] = []
    for index, picture in enumerate(pictures):
        boxes = box_convert(picture["boxes"], "xyxy", "xywh")
        scores = picture.get("scores", torch.ones(len(boxes)))
        for box, label, score in zip(boxes.tolist(), picture["labels"].tolist(), scores.tolist()):
            entry = dict(image_id=index, category_id=label, bbox=box, score=score, area=box[2] * box[3], iscrowd=0)
            entries.append(dict(entry, id=len(entries) + 1))
    return entries
