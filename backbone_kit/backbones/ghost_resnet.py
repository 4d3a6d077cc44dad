"""Ghost-ResNet: a ResNet whose blocks compute some of their channels cheaply.

Source: Han et al., GhostNet: More Features from Cheap Operations, arXiv 1911.11907, section 4.1, table 6.
"""

from __future__ import annotations

from typing import Any

from .base import BACKBONES
from .resnet import ResNet


@BACKBONES.register_module()
class GhostResNet(ResNet):
    """ResNet with Ghost modules as all convolutions but the stem's; further arguments as `ResNet`.

    Args:
        depth: Number of layers, one of `arch_settings`.
        ratio: Channels of each convolution over those that are not ghosts, s of the paper.
        dw_size: Side of the kernels that make the ghosts in pixels, d of the paper.

    Examples:
        >>> [type(conv).__name__ for conv in (GhostResNet(50).conv1, GhostResNet(50).layer1[0].conv2)]
        ['Conv2d', 'GhostModule']
    """

    settled = ("conv_cfg",)

    def __init__(self, depth: int, ratio: int = 2, dw_size: int = 3, **kwargs: Any) -> None:
        super().__init__(depth, conv_cfg={"type": "Ghost", "ratio": ratio, "dw_size": dw_size}, **kwargs)

    def add_first_layers(self, *args: Any, **kwargs: Any) -> int:
        """As a ResNet's, of plain convolutions."""
        return super().add_first_layers(*args, **{**kwargs, "conv_cfg": None})
