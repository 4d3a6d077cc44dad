"""ResNeXt: bottlenecks whose 3x3 works in groups.

Source: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", arXiv 1611.05431, section 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ConfigError
from .base import BACKBONES
from .blocks import Bottleneck
from .ranges import check_range
from .resnet import ResNet


@BACKBONES.register_module()
class ResNeXt(ResNet):
    """ResNeXt-50, 101 and 152; further arguments as `ResNet`.

    Args:
        depth: Number of layers, one of `arch_settings`.
        groups: Groups of the 3x3s; 1 is a ResNet.
        base_width: Width of each group in the first stage; it doubles with every stage.

    Raises:
        ConfigError: `base_width` is given for a single group, which is as wide as a ResNet's.

    Examples:
        >>> ResNeXt(50, groups=32, base_width=4).layer1[0].conv2
        Conv2d(128, 128, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=32, bias=False)
    """

    arch_settings: ClassVar[Any] = {depth: a for depth, a in ResNet.arch_settings.items() if a[0] is Bottleneck}
    settled = ("cardinality",)

    def __init__(self, depth: int, groups: int = 1, base_width: int = 4, **kwargs: Any) -> None:
        if groups == 1 and base_width != 4:
            raise ConfigError(
                f"{base_width} has no effect with groups=1; a wider net is a ResNet with base_width", ("base_width",)
            )
        check_range("groups", groups)
        super().__init__(depth, cardinality=groups, base_width=None if groups == 1 else base_width, **kwargs)
