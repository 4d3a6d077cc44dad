"""ResNet-C and ResNet-D under MMDetection's names.

Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187,
section 4.2.
"""

from __future__ import annotations

from typing import Any

from .base import BACKBONES
from .resnet import ResNet


@BACKBONES.register_module()
class ResNetV1c(ResNet):
    """ResNet with three 3x3 convolutions as its stem; arguments as `ResNet`."""

    def __init__(self, depth: int, *args: Any, deep_stem: bool = True, **kwargs: Any) -> None:
        super().__init__(depth, *args, deep_stem=deep_stem, **kwargs)  # type: ignore[misc]


@BACKBONES.register_module()
class ResNetV1d(ResNet):
    """ResNet-C with an average pool in place of the shortcut's stride; arguments as `ResNet`."""

    def __init__(self, depth: int, *args: Any, deep_stem: bool = True, avg_down: bool = True, **kwargs: Any) -> None:
        super().__init__(depth, *args, deep_stem=deep_stem, avg_down=avg_down, **kwargs)  # type: ignore[misc]
