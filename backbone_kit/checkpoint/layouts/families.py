"""What keys alone do not tell: of which family a net with our keys is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def is_regnet(ours: Mapping[str, Tensor]) -> bool:
    """Whether it is a RegNet; a ResNet for small pictures has the same keys, and a 3x3 stem too.

    That one's first convolution is as wide as its stem, and its block four times wider at its end.
    """
    stem, first, last = (ours.get(key) for key in ("conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv3.weight"))
    if stem is None or first is None or last is None:
        return False
    is_resnet = last.shape[0] == 4 * first.shape[0] == 4 * stem.shape[0]
    return tuple(stem.shape[2:]) == (3, 3) and not is_resnet
