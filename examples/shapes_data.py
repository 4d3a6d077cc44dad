"""Pictures of shapes on photographs, drawn as they are asked for, with exact boxes and masks."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ranges import check_ranges
from torch.utils.data import Dataset

PHOTOGRAPHS = Path(__file__).parent / "data"
CLASSES = ("background", "circle", "square", "triangle", "cross")
SPLITS = {"train": ("astronaut", "chelsea", "rocket"), "val": ("coffee",), "test": ("coffee",)}
"""The photographs behind the shapes; those of the pictures that are measured are never trained on."""
LEAST = 3
"""Pixels that the outer circle of a shape has to span. Half a cross' diagonal, 2**0.5 / 3 of its radius, is then half a
pixel's: some pixel's centre is inside, wherever the shape is and however it is turned."""


@dataclass(frozen=True)
class ShapesConfig:
    """How the pictures are.

    Args:
        size: Height and width of a picture in pixels.
        max_shapes: The most shapes on a picture; there is one at least.
        min_extent, max_extent: Smallest and largest diameter of a shape's outer circle, as part of `size`; it spans
            3 pixels at least, or a shape might have none.
        max_turn: How far a shape is turned at most, to either side, in degrees.
        val_pictures, test_pictures: How many pictures choose the best checkpoint, and how many measure it at the end.
    """

    size: int = 128
    max_shapes: int = 4
    min_extent: float = 0.2
    max_extent: float = 0.5
    max_turn: float = 30
    val_pictures: int = 100
    test_pictures: int = 200

    def __post_init__(self) -> None:
        extents = f"{LEAST}/{self.size} or more, up to max_extent={self.max_extent}, which is up to 1"
        check_ranges(
            self,
            size=(self.size >= 32, "32 or more"),
            max_shapes=(self.max_shapes >= 1, "1 or more"),
            min_extent=(self.min_extent * self.size >= LEAST and self.min_extent <= self.max_extent <= 1, extents),
            max_turn=(0 <= self.max_turn <= 180, "from 0 to 180"),
            val_pictures=(self.val_pictures >= 1, "1 or more"),
            test_pictures=(self.test_pictures >= 1, "1 or more"),
        )


class Shapes(Dataset):
    """Picture number `index` of a split is the same in every run, whatever was drawn before.

    An item is a picture (3, H, W) from 0 to 1, and its target: for K shapes, from back to front, `boxes` (K, 4) as
    corners in pixels, `labels` (K,) as indices of `CLASSES`, and `masks` (K, H, W), all of what can be seen of a shape;
    `classes` (H, W) has the class of each pixel.

    Args:
        config: How the pictures are.
        split: 'train', 'val' or 'test'.
        length: How many pictures.
        seed: Another seed, other pictures.
    """

    def __init__(self, config: ShapesConfig, split: str, length: int, seed: int = 0) -> None:
        self.config, self.length = config, length
        self.photographs, self.seed = SPLITS[split], (seed, list(SPLITS).index(split))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        if not 0 <= index < self.length:
            raise IndexError(index)  # which also ends a loop over all of them
        rng = np.random.default_rng((*self.seed, index))
        picture = _background(rng, self.photographs, self.config.size)
        masks, labels = np.zeros((0, self.config.size, self.config.size), bool), []
        for _ in range(rng.integers(1, self.config.max_shapes + 1)):
            label = int(rng.integers(1, len(CLASSES)))
            distance = _distance(rng, label, self.config)
            mask = distance < 0
            hidden = (masks & mask).sum((1, 2))
            if (hidden > 0.2 * masks.sum((1, 2))).any() or hidden.sum() > 0.5 * mask.sum():
                continue  # a shape that hides much of another, or lies on it, is left out
            masks = np.concatenate([masks & ~mask, mask[None]])
            labels.append(label)
            cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)[..., None]  # of a pixel at the border, a part
            picture = picture * (1 - cover) + _paint(rng, picture[mask].mean(0), self.config.size) * cover
        picture = (picture + 0.02 * rng.standard_normal(picture.shape, np.float32)).clip(0, 1)
        return torch.from_numpy(picture).permute(2, 0, 1).contiguous(), _target(masks, labels)


def collate(items: list[Any]) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """A batch: a list of pictures, and a list of targets."""
    pictures, targets = zip(*items)
    return list(pictures), list(targets)


@functools.cache
def _photograph(name: str) -> Image.Image:
    return Image.open(PHOTOGRAPHS / f"{name}.jpg").convert("RGB")


def _background(rng: np.random.Generator, names: tuple[str, ...], size: int) -> np.ndarray:
    """A square piece of a photograph, mirrored or not, lighter or darker; (H, W, 3) from 0 to 1."""
    photograph = _photograph(names[rng.integers(len(names))])
    side = rng.uniform(0.3, 1) * min(photograph.size)
    left, top = (rng.uniform(0, length - side) for length in photograph.size)
    piece = photograph.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    picture = np.asarray(piece, np.float32) * np.float32(rng.uniform(0.6, 1.1) / 255)
    return picture[:, ::-1] if rng.random() < 0.5 else picture


def _distance(rng: np.random.Generator, label: int, config: ShapesConfig) -> np.ndarray:
    """Of each pixel's centre, how far outside of a new shape it is, negative inside; (H, W) in pixels."""
    radius = rng.uniform(config.min_extent, config.max_extent) * config.size / 2
    x0, y0 = rng.uniform(radius, config.size - radius, 2)
    angle = np.deg2rad(rng.uniform(-1, 1) * config.max_turn)
    y, x = _centres(config.size)
    x, y = x - x0, y - y0
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if CLASSES[label] == "circle":
        return np.hypot(u, v) - radius
    if CLASSES[label] == "square":
        return np.maximum(abs(u), abs(v)) - radius / np.sqrt(2)
    if CLASSES[label] == "triangle":
        return np.maximum(abs(u) * np.sqrt(3) / 2 - v / 2, v) - radius / 2  # y goes down
    arm = radius / 3  # half as wide as the arms of a cross are; its ends lie on the circle
    bars = [np.maximum(abs(a) - np.sqrt(radius**2 - arm**2), abs(b) - arm) for a, b in ((u, v), (v, u))]
    return np.minimum(*bars)


def _paint(rng: np.random.Generator, behind: np.ndarray, size: int) -> np.ndarray:
    """A colour that is not the one behind it, lighter towards one side; (H, W, 3)."""
    colour = rng.uniform(0, 1, 3)
    while np.linalg.norm(colour - behind) < 0.4:
        colour = rng.uniform(0, 1, 3)
    slope = rng.uniform(-0.3, 0.3, 2)
    y, x = (centre / size - 0.5 for centre in _centres(size))
    return (colour + (slope[0] * y + slope[1] * x)[..., None]).astype(np.float32)


def _centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """y (H, 1) and x (1, W) of the pixels' centres."""
    y, x = np.ogrid[:size, :size]
    return y + 0.5, x + 0.5


def _target(masks: np.ndarray, labels: list[int]) -> dict[str, Any]:
    boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in map(np.nonzero, masks)]
    return dict(
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32),
        labels=torch.tensor(labels),
        masks=torch.from_numpy(masks),
        classes=torch.from_numpy((masks * np.array(labels)[:, None, None]).sum(0)),  # masks have no pixel in common
    )
