"""What keys alone do not tell: of which family a net with our keys is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def is_regnet(ours: Mapping[str, Tensor]) -> bool:
    """Whether it is a RegNet, whose blocks are no wider at their end, behind a 3x3 stem; a ResNet has the same keys."""
    stem, first, last = (ours.get(key) for key in ("conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv3.weight"))
    if stem is None or first is None or last is None:
        return False
    return tuple(stem.shape[2:]) == (3, 3) and first.shape[0] == last.shape[0]
