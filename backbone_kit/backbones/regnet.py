"""RegNetX and RegNetY: residual nets whose widths are a straight line over their blocks, cut into steps.

Source: Radosavovic et al., "Designing Network Design Spaces", arXiv 2003.13678, sections 3.3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple, TypedDict

from torch import Tensor

from ..errors import ConfigError
from ..layers.channels import make_divisible
from ..layers.se_layer import SIGMOID, SELayer
from .base import BACKBONES
from .blocks import Bottleneck
from .ranges import check_range
from .residual import RELU
from .resnet import ResNet
from .stem import single_conv


class _Line(TypedDict):
    w0: int
    wa: float
    wm: float
    depth: int
    group_w: int


class Arch(_Line, total=False):
    """The numbers of a RegNet.

    Block j has the width `w0 + wa * j`, brought to `w0` times a power of `wm` and then to a multiple of 8; its 3x3 has
    groups of `group_w` channels, and `bot_mul` times (default 1) the block's width. Where groups do not fit, the width
    goes to the nearest multiple of `group_w`, or to the next one where the nearest is less than `group_min_ratio` of it
    (default 0; torchvision's nets have 0.9).
    """

    bot_mul: float
    group_min_ratio: float


ArchName = Literal[
    "regnetx_400mf",
    "regnetx_800mf",
    "regnetx_1.6gf",
    "regnetx_3.2gf",
    "regnetx_4.0gf",
    "regnetx_6.4gf",
    "regnetx_8.0gf",
    "regnetx_12gf",
]

ARCHS: dict[str, Arch] = {
    "regnetx_400mf": {"w0": 24, "wa": 24.48, "wm": 2.54, "group_w": 16, "depth": 22},
    "regnetx_800mf": {"w0": 56, "wa": 35.73, "wm": 2.28, "group_w": 16, "depth": 16},
    "regnetx_1.6gf": {"w0": 80, "wa": 34.01, "wm": 2.25, "group_w": 24, "depth": 18},
    "regnetx_3.2gf": {"w0": 88, "wa": 26.31, "wm": 2.25, "group_w": 48, "depth": 25},
    "regnetx_4.0gf": {"w0": 96, "wa": 38.65, "wm": 2.43, "group_w": 40, "depth": 23},
    "regnetx_6.4gf": {"w0": 184, "wa": 60.83, "wm": 2.07, "group_w": 56, "depth": 17},
    "regnetx_8.0gf": {"w0": 80, "wa": 49.56, "wm": 2.88, "group_w": 120, "depth": 23},
    "regnetx_12gf": {"w0": 168, "wa": 73.36, "wm": 2.37, "group_w": 112, "depth": 19},
}
"""Source: arXiv 2003.13678, table 2 and appendix D; the names are MMDetection's."""


class Stage(NamedTuple):
    """What `arch` says of a stage: the width of its blocks, their number, the width and the groups of their 3x3s."""

    planes: int
    blocks: int
    width: int
    groups: int


def stages_of(arch: Arch) -> list[Stage]:
    """The stages of a RegNet.

    Raises:
        ConfigError: A number is out of range.

    Examples:
        >>> stages_of(ARCHS['regnetx_3.2gf'])[0]
        Stage(planes=96, blocks=2, width=96, groups=2)
    """
    w0, wa, wm, group = arch["w0"], arch["wa"], arch["wm"], arch["group_w"]
    bot_mul, limit = arch.get("bot_mul", 1.0), arch.get("group_min_ratio", 0.0)
    for key, value, fits, rule in (
        ("w0", w0, w0 > 0 and w0 % 8 == 0, "a positive multiple of 8"),
        ("wa", wa, wa >= 0, "0 or more"),
        ("wm", wm, wm > 1, "more than 1"),
        ("depth", arch["depth"], arch["depth"] > 0, "1 or more"),
        ("group_w", group, group > 0, "1 or more"),
        ("bot_mul", bot_mul, bot_mul > 0, "more than 0"),
    ):
        if not fits:
            raise ConfigError(f"must be {rule}, got {value}", ("arch", key))
    steps = (round(math.log((w0 + wa * block) / w0) / math.log(wm)) for block in range(arch["depth"]))
    stages = []
    for planes, blocks in groupby(round(w0 * wm**step / 8) * 8 for step in steps):
        width = int(planes * bot_mul)
        size = min(group, width)
        width = make_divisible(width, size, limit) if limit else round(width / size) * size
        planes = int(width / bot_mul)
        stages.append(Stage(planes, len(list(blocks)), width, width // size))
    return stages


class RegNetBottleneck(Bottleneck):
    """A bottleneck that is as wide at its end as the stage, with an `SELayer` behind its 3x3 in RegNetY.

    Args:
        inplanes: Channels of the input.
        planes: Channels of the output.
        *args, width, **kwargs: As `Bottleneck` has them.
        se_ratio: Channels inside the `SELayer` over `inplanes`; 0: there is none.
    """

    expansion = 1

    def __init__(
        self, inplanes: int, planes: int, *args: Any, width: int, se_ratio: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(inplanes, planes, *args, width=width, **kwargs)
        self.se_layer = None
        if se_ratio:
            act = kwargs.get("act_cfg") or RELU
            self.se_layer = SELayer(width, max(1, round(inplanes * se_ratio)), act_cfg=(act, SIGMOID))

    def before_last(self, x: Tensor) -> Tensor:
        """f(x) up to its last convolution."""
        x = super().before_last(x)
        return x if self.se_layer is None else self.se_layer(x)


@BACKBONES.register_module()
class RegNet(ResNet):
    """RegNetX, and with `se_ratio` RegNetY; further arguments as `ResNet`.

    Args:
        arch: One of MMDetection's names, or the numbers: `w0`, `wa`, `wm`, `depth`, `group_w`, and perhaps `bot_mul`
            and `group_min_ratio` (see `Arch`).
        in_channels: Channels of the picture.
        stem_channels: Channels of the stem's map, a 3x3's of stride 2. No pool follows it.
        base_channels: MMDetection has it, and there as here it says nothing: widths follow from `arch`.
        strides: Stride of the first block of each stage; None: 2s.
        deep_stem: False; there is no other stem.
        se_ratio: Channels inside of a block's squeeze and excitation over those of its input: 0.25 for RegNetY; 0: the
            blocks have none.

    Raises:
        ConfigError: An argument is out of range, of the wrong length, or contradicts another.

    Examples:
        >>> RegNet('regnetx_400mf').out_channels, RegNet('regnetx_400mf').out_strides
        ((32, 64, 160, 384), (4, 8, 16, 32))
    """

    settled = (
        *("depth", "num_stages", "layers", "planes", "block", "block_reduce_first", "cardinality", "base_width"),
        *("stem_type", "stem_width", "replace_stem_pool", "down_kernel_size", "output_stride"),
    )

    def __init__(
        self,
        arch: ArchName | Arch,
        in_channels: int = 3,
        stem_channels: int = 32,
        base_channels: Literal[32] = 32,
        strides: Sequence[int] | None = None,
        *,
        deep_stem: Literal[False] = False,
        se_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        stages = stages_of(ARCHS[arch] if isinstance(arch, str) else arch)
        check_range("stem_channels", stem_channels)
        if se_ratio < 0:
            raise ConfigError(f"must be 0 or more, got {se_ratio}", ("se_ratio",))
        self._inside = {stage.planes: {"width": stage.width, "groups": stage.groups} for stage in stages}
        self.se_ratio = se_ratio
        super().__init__(
            sum(stage.blocks for stage in stages),
            in_channels,
            stem_channels,
            num_stages=len(stages),
            strides=(2,) * len(stages) if strides is None else strides,
            layers=[stage.blocks for stage in stages],
            planes=[stage.planes for stage in stages],
            **kwargs,
        )

    @classmethod
    def _architecture(cls, depth: int, layers: Any, block: Any, num_stages: int) -> tuple[Any, tuple[int, ...]]:
        return (RegNetBottleneck,) * num_stages, tuple(layers)

    def add_first_layers(
        self, in_channels: int, widths: tuple[int, ...], replace_pool: bool, anti_alias: Any, **types: Any
    ) -> int:
        """The stem, a 3x3 of stride 2."""
        self.add_stem(single_conv(in_channels, widths, kernel_size=3, **types), channels=widths[-1], stride=2)
        return 2

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """Width and groups of the 3x3, and the share of squeeze and excitation."""
        return {**self._inside[planes], "se_ratio": self.se_ratio}
