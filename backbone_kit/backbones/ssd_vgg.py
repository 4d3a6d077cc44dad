"""SSD's VGG, with the arguments and the state-dict keys of MMDetection's.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", arXiv 1512.02325, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from torch import nn

from ..errors import ConfigError
from ..layers import ActivationCfg
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .levels import normalized_indices
from .ranges import check_range
from .types import ConvCfg, NormCfg
from .vgg_layers import CHANNELS, conv_layers, max_pool, num_convs, numbered
from .weights import InitCfg


class _Step(NamedTuple):
    """A convolution with what follows it, or a pool: what it is made of, before it is.

    Attributes:
        build: Builds its layers.
        end: The number of its last layer in `features`, the one whose output nothing overwrites.
        channels, stride: Of its map.
    """

    build: Callable[[], list[nn.Module]]
    end: int
    channels: int
    stride: int


@BACKBONES.register_module()
class SSDVGG(Backbone):
    """VGG-11, 13, 16 or 19 with the first two layers of its classifier as convolutions, the first one dilated by 6.

    A stage is a pool and the convolutions behind it, so that its map is the one before the next pool: the strides are
    1, 2, 4, 8, 16. The former classifier belongs to the last stage. There is no stem: the level 'stem' is the picture,
    of stride 1, and `frozen_stages=0` freezes nothing.

    Args:
        depth: Number of layers of the VGG: 11, 13, 16 or 19.
        with_last_pool: Whether the fifth pool halves the map before the former classifier, as VGG's does, and a pool of
            stride 1 follows; otherwise there is the latter alone.
        ceil_mode: Whether pools round odd sizes up; otherwise they leave the last row or column out.
        out_indices: Stages whose maps are returned, in this order; None: the last two, (3, 4).
        out_feature_indices: The same by the number of a layer in `features`, an activation or a pool, as MMDetection
            has it; at depth 16, (22, 34) are the stages (3, 4). None: as `out_indices` says. Layers that end no stage
            are levels of their own, 'features<number>', in the place where they run.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        in_channels: Channels of the picture.
        frozen_stages: -1 and 0 freeze nothing, k the stages 1..k.
        conv_cfg: Type of the convolutions; None: Conv2d. They have a bias, also before a norm.
        norm_cfg: Type of the norms; None: there are none.
        act_cfg: Type of the activations; None: ReLU.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        prune_stages: Whether what comes after the last map that is returned is left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range, `out_feature_indices` names a layer whose map is overwritten, or it
            contradicts `out_indices`.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple of (N, C, H / stride, W / stride), rounded as `ceil_mode` says; of one map, too.

    Examples:
        >>> import torch
        >>> [tuple(f.shape) for f in SSDVGG(16).eval()(torch.rand(1, 3, 75, 75))]
        [(1, 512, 10, 10), (1, 1024, 5, 5)]
    """

    def __init__(
        self,
        depth: int,
        with_last_pool: bool = False,
        ceil_mode: bool = True,
        out_indices: Sequence[int] | None = None,
        out_feature_indices: Sequence[int] | None = None,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        *,
        in_channels: int = 3,
        frozen_stages: int = -1,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        norm_eval: bool = False,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        check_range("in_channels", in_channels)
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        stages = _stages(num_convs(depth), in_channels, with_last_pool, ceil_mode, **types)
        ends = [stage[-1].end for stage in stages]
        returned = _returned(out_indices, out_feature_indices, stages)
        levels = sorted({*ends, *returned})
        super().__init__(
            num_stages=len(stages),
            num_levels=len(levels),
            out_indices=[levels.index(end) for end in returned],
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        self.add_stem({}, channels=in_channels, stride=1)
        first = 0
        for end in levels[: self.levels_to_build]:
            stage = next(stage for stage in stages if stage[-1].end >= end)
            steps = [step for step in stage if first <= step.end <= end]
            layers = numbered([*chain.from_iterable(step.build() for step in steps)], first)
            name = f"stage{stages.index(stage) + 1}" if end in ends else f"features{end}"
            level: dict[str, Any] = dict(channels=steps[-1].channels, stride=steps[-1].stride)
            if steps[0] is stage[0]:
                self.add_stage(name, layers, **level, blocks=sum(isinstance(m, nn.Conv2d) for m in layers.values()))
            else:
                self.add_level(name, layers, **level)
            first = end + 1


def _stages(
    convs: Sequence[int], in_channels: int, with_last_pool: bool, ceil_mode: bool, **types: Any
) -> list[list[_Step]]:
    """The steps of each stage, the former classifier's in the last."""
    channels, stride, end = in_channels, 1, -1
    stages: list[list[_Step]] = [[] for _ in convs]

    def pool(index: int) -> None:
        nonlocal stride, end
        stride, end = 2 * stride, end + 1
        stages[index].append(_Step(lambda: [max_pool(ceil_mode)], end, channels, stride))

    def conv(index: int, width: int, kernel_size: int = 3, dilation: int = 1) -> None:
        nonlocal channels, end
        build = partial(conv_layers, channels, width, kernel_size, dilation, **types)
        channels, end = width, end + (2 if types["norm_cfg"] is None else 3)
        stages[index].append(_Step(build, end, channels, stride))

    for index, count in enumerate(convs):
        if index:
            pool(index)
        for _ in range(count):
            conv(index, CHANNELS[index])
    if with_last_pool:
        pool(4)
    end += 1
    stages[4].append(_Step(lambda: [nn.MaxPool2d(3, stride=1, padding=1)], end, channels, stride))
    conv(4, 1024, dilation=6)
    conv(4, 1024, kernel_size=1)
    return stages


def _returned(
    out_indices: Sequence[int] | None, out_feature_indices: Sequence[int] | None, stages: Sequence[Sequence[_Step]]
) -> list[int]:
    """The numbers of the layers whose maps are returned.

    Raises:
        ConfigError: One is no layer, or none whose map stays as it is; or both arguments are given and do not agree.
    """
    by_stage = normalized_indices((3, 4) if out_indices is None else out_indices, len(stages))
    meant = [stages[index][-1].end for index in by_stage]
    if out_feature_indices is None:
        return meant
    allowed = [step.end for stage in stages for step in stage]
    path = ("out_feature_indices",)
    if not out_feature_indices or len(set(out_feature_indices)) < len(out_feature_indices):
        raise ConfigError(f"must name one layer or more, each once, got {tuple(out_feature_indices)}", path)
    for index, number in enumerate(out_feature_indices):
        if number not in allowed:
            listed = ", ".join(map(str, allowed))
            raise ConfigError(f"must be an activation or a pool, one of {listed}, got {number}", (*path, index))
    if out_indices is not None and meant != list(out_feature_indices):
        raise ConfigError(
            f"says {tuple(out_feature_indices)}, and out_indices={tuple(out_indices)} means {tuple(meant)}; give one",
            path,
        )
    return list(out_feature_indices)
