"""Figures that can be told by hand."""

from __future__ import annotations

import pytest
import torch
from evaluation import box_ap, mean_iou


def boxes(*corners: tuple[float, ...], labels: tuple[int, ...], scores: tuple[float, ...] = ()) -> dict:
    return dict(
        boxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        **(dict(scores=torch.tensor(scores)) if scores or not corners else {}),
    )


TRUTH = [boxes((10, 10, 50, 50), labels=(1,)), boxes((0, 0, 20, 40), labels=(1,))]


def test_true_boxes_have_an_ap_of_1() -> None:
    found = [dict(target, scores=torch.ones(1)) for target in TRUTH]
    assert box_ap(found, TRUTH) == dict(AP=1, AP50=1, AP75=1)


def test_a_box_counts_up_to_its_iou() -> None:
    # 40 x 30 of 40 x 40 pixels and 20 x 30 of 20 x 40 have an IoU of 0.75, that of six of the ten thresholds
    found = [boxes((10, 10, 50, 40), labels=(1,), scores=(0.9,)), boxes((0, 0, 20, 30), labels=(1,), scores=(0.8,))]
    assert box_ap(found, TRUTH) == pytest.approx(dict(AP=0.6, AP50=1, AP75=1))


def test_of_what_is_missed_the_recall_is_missing() -> None:
    found = [dict(TRUTH[0], scores=torch.ones(1)), boxes(labels=())]
    assert box_ap(found, TRUTH)["AP50"] == pytest.approx(51 / 101)  # precision 1 at the recalls 0, 0.01, ..., 0.5


def test_a_false_box_of_higher_score_halves_precision() -> None:
    found = [boxes((60, 60, 90, 90), (10, 10, 50, 50), labels=(1, 1), scores=(0.9, 0.8))]
    assert box_ap(found, TRUTH[:1])["AP50"] == pytest.approx(0.5)


def test_a_box_of_another_class_is_none() -> None:
    assert box_ap([boxes((10, 10, 50, 50), labels=(2,), scores=(0.9,))], TRUTH[:1])["AP50"] == 0


def test_no_boxes_have_an_ap_of_0() -> None:
    assert box_ap([boxes(labels=()), boxes(labels=())], TRUTH) == dict(AP=0, AP50=0, AP75=0)


def test_mean_iou_is_that_of_the_classes_that_occur() -> None:
    true = torch.zeros(4, 4, dtype=torch.int64)
    true[:2] = 1
    seen = torch.zeros(4, 4, dtype=torch.int64)
    seen[:1] = 1
    seen[3] = 3
    background, circle, triangle = 4 / 12, 4 / 8, 0 / 4
    figures = mean_iou([dict(classes=seen)], [dict(classes=true)])
    mean = (background + circle + triangle) / 3
    assert figures == pytest.approx(dict(mIoU=mean, background=background, circle=circle, triangle=triangle))


def test_iou_is_counted_over_all_pictures_together() -> None:
    nothing, all_circle = torch.zeros(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.int64)
    half = torch.tensor([[0, 0], [1, 1]])
    figures = mean_iou([dict(classes=c) for c in (nothing, half)], [dict(classes=c) for c in (nothing, all_circle)])
    assert figures == pytest.approx(dict(mIoU=(4 / 6 + 2 / 4) / 2, background=4 / 6, circle=2 / 4))
