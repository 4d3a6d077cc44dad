"""ResNet for small pictures: its stem keeps their size.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.2, with the widths and
stages of section 4.1, as mmpretrain has it.
"""

from __future__ import annotations

from typing import Any, Literal

from .base import BACKBONES
from .resnet import ResNet
from .stem import single_conv


@BACKBONES.register_module()
class ResNet_CIFAR(ResNet):
    """ResNet with a 3x3 of stride 1 as its stem and no pool: maps of strides 1, 2, 4, 8; arguments as `ResNet`.

    Args:
        depth: Number of layers, one of `arch_settings`.
        deep_stem: There is none here; False may be said.
    """

    settled = ("stem_type", "stem_width", "replace_stem_pool", "output_stride")

    def __init__(self, depth: int, deep_stem: Literal[False] = False, **kwargs: Any) -> None:
        super().__init__(depth, deep_stem=deep_stem, **kwargs)

    def add_first_layers(
        self, in_channels: int, widths: tuple[int, ...], replace_pool: bool, anti_alias: Any, **types: Any
    ) -> int:
        """The stem, which keeps the picture's size."""
        self.add_stem(single_conv(in_channels, widths, kernel_size=3, stride=1, **types), channels=widths[-1], stride=1)
        return 1
