"""GhostNet, GhostNetV2 and GhostNetV3, with timm's state-dict keys.

Source: Han et al., GhostNet: More Features from Cheap Operations, arXiv 1911.11907, table 1; Tang et al., GhostNetV2:
Enhance Cheap Operation with Long-Range Attention, arXiv 2211.12905; Liu et al., GhostNetV3: Exploring the Training
Strategies for Compact Models, arXiv 2404.11202.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg, build_activation_layer
from ..layers.channels import make_divisible
from ..layers.ghost import conv_norm
from ..layers.ranges import check_positive
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .ghost_bottleneck import GhostBottleneck
from .ranges import check_range
from .residual import BN, RELU
from .types import ConvCfg, NormCfg
from .weights import InitCfg

Row = tuple[int, int, int, float, int]

# Kernel, channels inside, channels, ratio of squeeze and excitation, stride. The first group ends the stem, each pair
# of groups after it is a stage.
GROUPS: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 16, 0, 1),),
    ((3, 48, 24, 0, 2),),
    ((3, 72, 24, 0, 1),),
    ((5, 72, 40, 0.25, 2),),
    ((5, 120, 40, 0.25, 1),),
    ((3, 240, 80, 0, 2),),
    (
        (3, 200, 80, 0, 1),
        (3, 184, 80, 0, 1),
        (3, 184, 80, 0, 1),
        (3, 480, 112, 0.25, 1),
        (3, 672, 112, 0.25, 1),
    ),
    ((5, 672, 160, 0.25, 2),),
    (
        (5, 960, 160, 0, 1),
        (5, 960, 160, 0.25, 1),
        (5, 960, 160, 0, 1),
        (5, 960, 160, 0.25, 1),
    ),
)
FIRST_WITH_ATTENTION = 2  # the block, counted from 0 over the whole net


@BACKBONES.register_module()
class GhostNet(Backbone):
    """GhostNet, GhostNetV2 and GhostNetV3.

    The maps are those of the last block at each stride: 24, 40, 112 and 160 channels at width 1. The level 'stem' is
    the last map of stride 2. What timm has behind them, `blocks.9`, `conv_head` and `classifier`, belongs to a
    classifier.

    Args:
        width: Factor of all channels, which are rounded to multiples of 4.
        version: 'v1'; 'v2', which has attention in all blocks but the first two; 'v3', which trains with several
            branches for each convolution besides, until `reparameterize`.
        in_channels: Channels of the picture.
        output_stride: Input pixels per pixel of the last map, 8, 16 or 32: later strides turn into dilation.
        out_indices: Stages whose maps are returned, in this order; None: all four.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k.
        conv_cfg: Type of the convolutions, but for those of squeeze and excitation; None: Conv2d.
        norm_cfg: Type of the norms; None: BatchNorm.
        act_cfg: Type of the activations; None: ReLU.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        with_cp: Whether blocks are recomputed in backward, for less memory.
        deploy: Whether the branches of 'v3' are built merged, for weights that were saved after `reparameterize`.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range, or has no effect.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded up.

    Examples:
        >>> import torch
        >>> net = GhostNet(width=0.5).eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 96))]
        [(1, 12, 16, 24), (1, 20, 8, 12), (1, 56, 4, 6), (1, 80, 2, 3)]
    """

    def __init__(
        self,
        width: float = 1.0,
        version: Literal["v1", "v2", "v3"] = "v1",
        *,
        in_channels: int = 3,
        output_stride: Literal[8, 16, 32] = 32,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        deploy: bool = False,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        super().__init__(
            num_stages=len(GROUPS) // 2,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        check_range("in_channels", in_channels)
        check_positive(width=width)
        if deploy and version != "v3":
            raise ConfigError(f"has no effect on {version!r}: only 'v3' has branches to merge", ("deploy",))
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=BN if norm_cfg is None else norm_cfg)
        act_cfg = RELU if act_cfg is None else act_cfg
        block = partial(GhostBottleneck, branches=version == "v3", with_cp=with_cp, act_cfg=act_cfg, **types)
        channels = make_divisible(16 * width, 4)
        groups = _group_specs(channels, width, version != "v1", output_stride)

        def group(index: int) -> dict[str, nn.Sequential]:
            blocks = [block(**spec) for spec in groups[index].blocks]
            for each in blocks if deploy else ():
                each.merge()
            return {f"blocks.{index}": nn.Sequential(*blocks)}

        conv, norm = conv_norm(in_channels, channels, kernel_size=3, stride=2, padding=1, **types)
        with located("act_cfg"):
            stem = {"conv_stem": conv, "bn1": norm, "act1": build_activation_layer(act_cfg)}
        self.add_stem({**stem, **group(0)}, channels=groups[0].channels, stride=groups[0].stride)
        for i in range(self.stages_to_build):
            last = 2 * i + 2
            stage = {**group(last - 1), **group(last)}
            level: dict[str, Any] = dict(channels=groups[last].channels, stride=groups[last].stride)
            self.add_stage(f"stage{i + 1}", stage, blocks=sum(map(len, stage.values())), **level)

    def default_init(self, module: nn.Module) -> None:
        """As the original: each layer as PyTorch makes it, or as it knows better."""
        for layer in module.modules():
            if callable(getattr(layer, "init_weights", None)):
                layer.init_weights()  # type: ignore[operator]

    def reparameterize(self) -> GhostNet:
        """Merges the branches of 'v3', in place: the net computes what it did in eval mode, with fewer layers.

        What is not merged is left as it is, and so are 'v1' and 'v2'. The keys become those of `deploy=True`.

        Returns:
            The net itself.

        Raises:
            ConfigError: A convolution or a norm cannot be merged.
        """
        for module in list(self.modules()):
            if isinstance(module, GhostBottleneck):
                module.merge()
        return self


@dataclass(frozen=True)
class _GroupSpec:
    """A group of blocks in numbers: what each is built with, and the channels and the stride of the last one's map."""

    blocks: tuple[dict[str, Any], ...]
    channels: int
    stride: int


def _group_specs(channels: int, width: float, attention: bool, output_stride: int) -> list[_GroupSpec]:
    """`GROUPS` for a net whose first convolution gives `channels` at stride 2."""
    specs: list[_GroupSpec] = []
    stride, dilation, index = 2, 1, 0
    for group in GROUPS:
        blocks = []
        for kernel_size, inside, outside, se_ratio, step in group:
            dilates = stride * step > output_stride
            out_channels = make_divisible(outside * width, 4)
            blocks.append(
                dict(
                    in_channels=channels,
                    mid_channels=make_divisible(inside * width, 4),
                    out_channels=out_channels,
                    kernel_size=kernel_size,
                    stride=step,
                    dilation=dilation,
                    dilates=dilates,
                    se_ratio=se_ratio,
                    attention=attention and index >= FIRST_WITH_ATTENTION,
                )
            )
            channels, index = out_channels, index + 1
            stride, dilation = (stride, dilation * step) if dilates else (stride * step, dilation)
        specs.append(_GroupSpec(tuple(blocks), channels, stride))
    return specs
