"""ResNeSt: a ResNet-D whose 3x3s are split attentions, with MMDetection's arguments and state-dict keys.

Source: Zhang et al., "ResNeSt: Split-Attention Networks", arXiv 2004.08955; code: github.com/zhanghang1989/ResNeSt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import nn

from ..errors import ConfigError
from ..layers import ActivationCfg, SplitAttentionConv2d
from ..layers.split_attention import BatchOfOne
from .base import BACKBONES
from .blocks import Bottleneck
from .ranges import check_rate
from .residual import PluginEntry, Style
from .resnet import ResNet
from .stage import build_downsample
from .types import ConvCfg, NormCfg


@BACKBONES.register_module()
class ResNeSt(ResNet):
    """ResNeSt-14, 26, 50, 101, 152, 200 and 269; what is not listed here is as `ResNet` has it.

    Args:
        depth: Number of layers.
        groups: Number of cardinal groups of each split.
        base_width: Width of a group where the stage's is `base_channels`, `bottleneck_width` in the original. None, and
            for one group 4 as well: the stage's for one group, 4 for more, as MMDetection has it.
        radix: Number of splits; 1: one, with a gate; 0: none, plain 3x3s with norms of their own (`conv2`, `bn2`).
        reduction_factor: Channels of a split attention over those between its 1x1s.
        avg_down_stride: Whether an average pool of 3x3 has the stride in place of a block's 3x3, which is there in
            `style='pytorch'` alone. With `output_stride`, the pool stays where dilation took the stride's place.
        avd_first: Whether that pool stands before the 3x3, not behind it.
        deep_stem: Three 3x3 convolutions in place of the stem's 7x7.
        avg_down: An average pool in place of the shortcut's stride.
        rectified_conv: Whether all convolutions are `RFConv2d`s: near the border, those of their taps that read the map
            count for those that do not.
        rectify_avg: Whether these are in `average_mode`.
        dropblock_prob: Probability of the `DropBlock`s behind the norms of the third and fourth stage.
        dropblock_warmup: Training forwards over which it grows from 0; 0: there is no schedule.
        last_gamma: `zero_init_residual` by the name that it has in the original.
        output_stride: 16 or 8 turn strides into dilation as the original does: `dilation=2` and `dilated=True` there.
        batch_of_one: Whether a split attention's BatchNorm, which sees one pixel of a map, refuses to train with one
            picture ('refuse') or takes its running statistics ('running_stats').

    Raises:
        ConfigError: An argument is out of range or contradicts another.

    Examples:
        >>> net = ResNeSt(50, out_indices=(1, 2, 3))
        >>> net.out_channels, sum(p.numel() for p in net.parameters())
        ((512, 1024, 2048), 25434240)
    """

    arch_settings: ClassVar[dict[int, Any]] = {
        14: (Bottleneck, (1, 1, 1, 1)),
        26: (Bottleneck, (2, 2, 2, 2)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
        200: (Bottleneck, (3, 24, 36, 3)),
        269: (Bottleneck, (3, 30, 48, 8)),
    }

    settled = ("block", "cardinality", "planes", "drop_block_rate")

    def __init__(
        self,
        depth: int,
        *,
        groups: int = 1,
        base_width: int | None = None,
        radix: int = 2,
        reduction_factor: int = 4,
        avg_down_stride: bool = True,
        avd_first: bool = False,
        deep_stem: bool = True,
        avg_down: bool = True,
        rectified_conv: bool = False,
        rectify_avg: bool = False,
        dropblock_prob: float = 0.0,
        dropblock_warmup: int = 0,
        last_gamma: bool | None = None,
        zero_init_residual: bool | None = None,
        batch_of_one: BatchOfOne = "refuse",
        num_stages: int = 4,
        style: Style = "pytorch",
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        plugins: Sequence[PluginEntry] | None = None,
        aa_layer: Literal["avg", "blur"] | None = None,
        **kwargs: Any,
    ) -> None:
        if avd_first and not avg_down_stride:
            raise ConfigError("has no effect without avg_down_stride=True", ("avd_first",))
        if aa_layer is not None and avg_down_stride:
            raise ConfigError("and avg_down_stride=True both have the strides of the 3x3s; remove one", ("aa_layer",))
        if last_gamma is not None and zero_init_residual not in (None, last_gamma):
            raise ConfigError(f"contradicts zero_init_residual={zero_init_residual}; remove one", ("last_gamma",))
        if rectify_avg and not rectified_conv:
            raise ConfigError("has no effect without rectified_conv=True", ("rectify_avg",))
        if rectified_conv:
            if conv_cfg is not None:
                raise ConfigError(f"takes the place of conv_cfg={conv_cfg}; remove one", ("rectified_conv",))
            conv_cfg = {"type": "RFConv", "average_mode": rectify_avg}
        if dropblock_warmup and not dropblock_prob:
            raise ConfigError("has no effect without dropblock_prob", ("dropblock_warmup",))
        check_rate("dropblock_prob", dropblock_prob)
        if base_width in (None, 4):
            base_width = None if groups == 1 else 4
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        split: dict[str, Any] = dict(radix=radix, reduction_factor=reduction_factor, batch_of_one=batch_of_one, **types)
        drop = dict(dropblock_prob=dropblock_prob, dropblock_warmup=dropblock_warmup)
        self.radix = radix
        self._pools = avg_down_stride and style == "pytorch"
        self._pool_first = avd_first
        self._split = partial(SplitAttentionConv2d, kernel_size=3, **split)
        self._dropping_split = partial(self._split, **drop)
        if dropblock_prob:
            plugins = [*(plugins or ()), *_drop_blocks(dropblock_prob, dropblock_warmup, num_stages, radix)]
        super().__init__(
            depth,
            cardinality=groups,
            base_width=base_width,
            deep_stem=deep_stem,
            avg_down=avg_down,
            zero_init_residual=zero_init_residual if last_gamma is None else last_gamma,
            num_stages=num_stages,
            style=style,
            plugins=plugins,
            aa_layer=aa_layer,
            **types,
            **kwargs,
        )

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """As `ResNet`; and the split attention in place of the 3x3."""
        split = self._dropping_split if _drops(planes // base_channels) else self._split
        more = {"pool_first": self._pool_first, "spatial_conv": split if self.radix else None}
        return {**super().block_args(planes, base_channels), **more}

    def block_pool(self, anti_alias: Callable[[int, int], nn.Module] | None) -> Callable[[int, int], nn.Module] | None:
        """The pool of `avg_down_stride`: means over windows of 3x3, which count the padding."""
        return _mean_3x3 if self._pools else anti_alias

    def build_shortcut(self, *args: Any, dilation: int, **kwargs: Any) -> nn.Sequential:
        """As `ResNet`; the original has no other pool where dilation took the stride's place."""
        return build_downsample(*args, **kwargs)


def _mean_3x3(channels: int, stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1)


def _drop_blocks(prob: float, warmup: int, num_stages: int, radix: int) -> list[PluginEntry]:
    """Those of the blocks; a split attention has its own inside."""
    stages = tuple(_drops(2**index) for index in range(num_stages))
    cfg = dict(type="DropBlock", drop_prob=prob, block_size=3, warmup_iters=warmup, whole_blocks=False)
    first: PluginEntry = {"cfg": {**cfg, "postfix": 1}, "position": "after_norm1", "stages": stages}
    second: PluginEntry = {"cfg": {**cfg, "postfix": 2}, "position": "after_norm2", "stages": stages}
    third: PluginEntry = {"cfg": {**cfg, "postfix": 3}, "position": "after_conv3", "stages": stages}
    return [first, third] if radix else [first, second, third]


def _drops(widening: int) -> bool:
    """Whether a stage that is so many times as wide as the first one has DropBlocks."""
    return widening >= 4
