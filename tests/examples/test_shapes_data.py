"""The pictures that the examples draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes_data import CLASSES, SPLITS, Shapes, ShapesConfig, _paint

from backbone_kit import ConfigError

RADIUS = 32.0
ARM = RADIUS / 3
AREAS = {
    "circle": math.pi * RADIUS**2,
    "square": 2 * RADIUS**2,
    "triangle": 3 * math.sqrt(3) / 4 * RADIUS**2,
    "cross": 8 * ARM * math.sqrt(RADIUS**2 - ARM**2) - 4 * ARM**2,
}


def test_a_shape_has_the_area_that_geometry_gives_it() -> None:
    config = ShapesConfig(size=128, max_shapes=1, min_extent=0.5, max_extent=0.5)
    seen = set()
    for _, target in map(Shapes(config, "train", 12).__getitem__, range(12)):
        name = CLASSES[target["labels"].item()]
        assert target["masks"].sum().item() == pytest.approx(AREAS[name], rel=0.02), name
        seen.add(name)
    assert seen == set(AREAS)


def test_the_smallest_shapes_have_pixels() -> None:
    config = ShapesConfig(size=32, max_shapes=1, min_extent=3 / 32, max_extent=3 / 32, max_turn=180)
    seen = set()
    for _, target in Shapes(config, "train", 300):
        assert target["masks"].any()
        seen.add(CLASSES[target["labels"].item()])
    assert seen == set(AREAS)


def test_shapes_that_are_not_turned_fill_their_boxes_as_geometry_says() -> None:
    config = ShapesConfig(size=128, max_shapes=1, min_extent=0.5, max_extent=0.5, max_turn=0)
    extents = {
        "circle": (2 * RADIUS, 2 * RADIUS),
        "square": (math.sqrt(2) * RADIUS, math.sqrt(2) * RADIUS),
        "triangle": (math.sqrt(3) * RADIUS, 1.5 * RADIUS),
        "cross": (2 * math.sqrt(RADIUS**2 - ARM**2), 2 * math.sqrt(RADIUS**2 - ARM**2)),
    }
    for _, target in Shapes(config, "train", 12):
        x1, y1, x2, y2 = target["boxes"][0].tolist()
        assert (x2 - x1, y2 - y1) == pytest.approx(extents[CLASSES[target["labels"].item()]], abs=1.5)


def test_boxes_and_classes_are_those_of_what_can_be_seen() -> None:
    shapes = Shapes(ShapesConfig(size=96, max_shapes=6), "train", 20)
    assert max(len(shapes[i][1]["labels"]) for i in range(20)) > 3
    for _, target in (shapes[i] for i in range(20)):
        assert target["masks"].sum(0).max() == 1
        for box, label, mask in zip(target["boxes"], target["labels"], target["masks"]):
            y, x = torch.nonzero(mask, as_tuple=True)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert (target["classes"][mask] == label).all()
        assert (target["classes"][~target["masks"].any(0)] == 0).all()


def test_a_shape_can_be_told_from_what_is_behind_it() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        behind = rng.uniform(0, 1, 3)
        assert np.linalg.norm(_paint(rng, behind, 32).mean((0, 1)) - behind) > 0.39


def test_a_picture_is_the_same_whatever_was_drawn_before() -> None:
    config = ShapesConfig(size=48)
    first, second = Shapes(config, "train", 9), Shapes(config, "train", 5)
    second[0]
    assert torch.equal(first[4][0], second[4][0])
    others = [Shapes(config, "train", 9, seed=1), Shapes(config, "val", 9), Shapes(config, "test", 9)]
    assert not any(torch.equal(first[4][0], other[4][0]) for other in others)


def test_a_loop_over_the_pictures_ends() -> None:
    assert len(list(Shapes(ShapesConfig(size=32), "val", 3))) == 3


def test_nothing_is_measured_on_photographs_that_were_trained_on() -> None:
    assert not {*SPLITS["train"]} & {*SPLITS["val"], *SPLITS["test"]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(size=16), "size: must be 32 or more, got 16"),
        (dict(max_shapes=0), "max_shapes: must be 1 or more, got 0"),
        (dict(max_turn=200), "max_turn: must be from 0 to 180, got 200"),
        (dict(min_extent=0.6), "min_extent: must be 3/128 or more, up to max_extent=0.5, which is up to 1, got 0.6"),
        (dict(min_extent=0.02), "min_extent: must be 3/128 or more, up to max_extent=0.5, which is up to 1, got 0.02"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, message) -> None:
    with pytest.raises(ConfigError) as caught:
        ShapesConfig(**wrong)
    assert str(caught.value) == message
