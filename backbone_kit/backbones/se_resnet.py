"""SE-ResNet and SE-ResNeXt: at the end of each block, every channel is scaled by a gate.

Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507, section 3 and table 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ConfigError
from ..layers.ranges import check_positive
from .base import BACKBONES
from .blocks import Bottleneck
from .resnet import ResNet


@BACKBONES.register_module()
class SEResNet(ResNet):
    """ResNet with an `SELayer` at the end of each block, `se_layer`; further arguments as `ResNet`.

    Args:
        depth: Number of layers.
        se_ratio: Channels of a block's output over those inside of its `SELayer`.

    Raises:
        ConfigError: `se_ratio` is not positive.
    """

    settled: ClassVar[tuple[str, ...]] = ("attn_layer",)

    def __init__(self, depth: int, *, se_ratio: float = 16, **kwargs: Any) -> None:
        check_positive(se_ratio=se_ratio)
        super().__init__(depth, attn_layer={"type": "SELayer", "ratio": se_ratio}, **kwargs)


@BACKBONES.register_module()
class SEResNeXt(SEResNet):
    """SE-ResNet whose 3x3s work in groups; further arguments as `SEResNet`.

    Args:
        depth: Number of layers, 50 or more.
        groups: Groups of the 3x3s; 1 is an SE-ResNet.
        base_width: Width of each group in the first stage; it doubles with every stage.

    Raises:
        ConfigError: `base_width` is given for a single group, which is as wide as a ResNet's.
    """

    arch_settings: ClassVar[Any] = {depth: a for depth, a in ResNet.arch_settings.items() if a[0] is Bottleneck}
    settled = (*SEResNet.settled, "cardinality")

    def __init__(self, depth: int, *, groups: int = 32, base_width: int = 4, **kwargs: Any) -> None:
        if groups == 1 and base_width != 4:
            raise ConfigError(
                f"{base_width} has no effect with groups=1; a wider net is an SEResNet with base_width", ("base_width",)
            )
        super().__init__(depth, cardinality=groups, base_width=None if groups == 1 else base_width, **kwargs)
