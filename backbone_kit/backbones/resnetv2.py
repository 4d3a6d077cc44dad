"""ResNetV2: residual nets whose norms and activations come before their convolutions; and BiT, the wide ones.

Source: He et al., "Identity Mappings in Deep Residual Networks", arXiv 1603.05027; BiT: Kolesnikov et al., "Big
Transfer", arXiv 1912.11370. State-dict keys are timm's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg, DropPath, build_activation_layer, build_norm_layer
from ..layers.average_pool import CeilAvgPool2d, SameAvgPool2d
from ..layers.channels import make_divisible
from ..layers.conv_norm import conv_norm
from ..layers.ranges import check_positive
from ..recompute import Recompute, recompute
from .base import BACKBONES, Backbone
from .convs import build_conv
from .ranges import check_range, check_rate
from .residual import BN, RELU
from .types import ConvCfg, NormCfg
from .weights import InitCfg

StemType = Literal["", "fixed", "deep", "deep_fixed", "tiered"]
Conv = tuple[int, int, int, int, int]
"""Input and output channels, kernel size, stride and dilation."""


@BACKBONES.register_module()
class ResNetV2(Backbone):
    """Pre-activation ResNet.

    The last stage's map leaves through the closing norm and its activation; those before are sums as they are. The
    level 'stem' is the stem's last convolution.

    Args:
        layers: Blocks of each stage.
        channels: Channels of each stage, before `width_factor`.
        in_channels: Channels of the picture.
        width_factor: What all channels are multiplied with.
        stem_channels: Channels of the stem's map, before `width_factor`.
        stem_type: '' for a 7x7, 'deep' for three 3x3s, 'tiered' for three that widen in steps; 'fixed' and
            'deep_fixed': with zeros around the pool's input, as BiT has it.
        avg_down: An average pool in place of the shortcut's stride.
        basic: Whether a block is 3x3, 3x3, not 1x1, 3x3, 1x1.
        bottle_ratio: Channels inside a block over those of its output.
        out_indices: Stages whose maps are returned, in this order; None: all.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k; the last with the closing norm.
        output_stride: Input pixels per pixel of the last map: later strides turn into dilation.
        conv_cfg: Type of the convolutions; None: Conv2d. BiT has `dict(type='StdConv', eps=1e-8)`.
        norm_cfg: Type of the norms; None: BatchNorm. BiT has `dict(type='GN', num_groups=32)`.
        act_cfg: Type of the activations behind norms; None: ReLU.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        with_cp: Whether blocks are recomputed in backward, for less memory.
        drop_path_rate: Drop-path probability of the last block; it grows linearly from 0 at the first.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range, or of the wrong length.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded up.

    Examples:
        >>> import torch
        >>> net = ResNetV2((2, 2, 2, 2), (64, 128, 256, 512), basic=True, bottle_ratio=1, out_indices=(1, 3)).eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 96))], net.out_strides
        ([(1, 128, 8, 12), (1, 512, 2, 3)], (8, 32))
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int] = (256, 512, 1024, 2048),
        in_channels: int = 3,
        *,
        width_factor: float = 1,
        stem_channels: int = 64,
        stem_type: StemType = "",
        avg_down: bool = False,
        basic: bool = False,
        bottle_ratio: float = 0.25,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        output_stride: Literal[8, 16, 32] = 32,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        if not layers or len(layers) != len(channels):
            message = f"needs one number a stage, as channels={tuple(channels)}, got {tuple(layers)}"
            raise ConfigError(message, ("layers",))
        super().__init__(
            num_stages=len(layers),
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        for name, values in (("layers", layers), ("channels", channels)):
            for index, value in enumerate(values):
                check_range(name, value, path=(index,))
        check_range("stem_channels", stem_channels, 8 if stem_type == "tiered" else 2)
        check_positive(width_factor=width_factor, bottle_ratio=bottle_ratio)
        check_rate("drop_path_rate", drop_path_rate)
        types: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg or BN, "act_cfg": act_cfg or RELU}

        before = make_divisible(stem_channels * width_factor)
        self.add_stem(_stem(stem_type, in_channels, before, types), channels=before, stride=2)
        fixed = stem_type.endswith("fixed")
        pad = {"stem.pad": nn.ConstantPad2d(1, 0.0)} if fixed else {}
        self.add_pool({**pad, "stem.pool": nn.MaxPool2d(3, stride=2, padding=0 if fixed else 1)}, stride=4)

        total, done = sum(layers), 0
        reached, dilation = 4, 1
        for stage, (depth, width) in enumerate(zip(layers[: self.stages_to_build], channels)):
            stride = 2 if stage else 1
            if reached >= output_stride:
                dilation, stride = dilation * stride, 1
            reached *= stride
            after = make_divisible(width * width_factor)
            inside = make_divisible(after * bottle_ratio)
            blocks: list[PreActBlock] = []
            for index in range(depth):
                here, spacing = (1, dilation) if index else (stride, max(1, dilation // 2))
                if basic:
                    convs = [(before, inside, 3, here, spacing), (inside, after, 3, 1, dilation)]
                else:
                    convs = [(before, inside, 1, 1, 1), (inside, inside, 3, here, spacing), (inside, after, 1, 1, 1)]
                shortcut = None
                if not index and (not basic or before != after or stride != 1 or spacing != dilation):
                    shortcut = _downsample(before, after, stride, dilation, avg_down, conv_cfg)
                rate = drop_path_rate * (done + index) / max(total - 1, 1)
                blocks.append(PreActBlock(convs, shortcut, drop_path=rate, with_cp=with_cp, **types))
                before = after
            done += depth
            name = f"stages.{stage}"
            is_last = stage == len(layers) - 1
            out = {"norm": _norm(types, after), "norm_act": _act(types)} if is_last else {}
            self.add_stage(name, {f"{name}.blocks": nn.Sequential(*blocks)}, channels=after, stride=reached, out=out)


class PreActBlock(nn.Module):
    """shortcut(a) + f(a), a = activation(norm(x)), f = convolutions with a norm and an activation between them.

    Without a shortcut layer, x itself is added.

    Args:
        convs: The convolutions.
        downsample: The layer on the shortcut; None: there is none.
        drop_path: Probability that f is dropped for a picture while training.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg, norm_cfg, act_cfg: Types of the layers.

    Source: arXiv 1603.05027, figure 4 (e).
    """

    def __init__(
        self, convs: Sequence[Conv], downsample: nn.Module | None, *, drop_path: float, with_cp: bool, **types: Any
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.downsample = downsample
        self.convs = len(convs)
        for index, (before, after, side, stride, dilation) in enumerate(convs, 1):
            self.add_module(f"norm{index}", _norm(types, before))
            self.add_module(f"conv{index}", _conv(types["conv_cfg"], before, after, side, stride, dilation))
        self.act = _act(types)
        self.drop_path = DropPath(drop_path) if drop_path else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H / stride, W / stride)."""
        return recompute(self, self._sum, x) if self.with_cp else self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.get_submodule("norm1")(x))
        shortcut = x if self.downsample is None else self.downsample(y)
        for index in range(1, self.convs):
            conv, norm = (self.get_submodule(name) for name in (f"conv{index}", f"norm{index + 1}"))
            y = conv_norm(conv, norm, y, self.act)
        y = self.get_submodule(f"conv{self.convs}")(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        return y + shortcut


def _downsample(
    before: int, after: int, stride: int, dilation: int, avg_down: bool, conv_cfg: ConvCfg | None
) -> nn.Sequential:
    """A 1x1 convolution without a norm, and with `avg_down` a pool before it, which has the stride."""
    layers = nn.Sequential()
    if avg_down and (stride > 1 or dilation > 1):
        layers.add_module("pool", CeilAvgPool2d(stride) if stride > 1 else SameAvgPool2d())
    layers.add_module("conv", _conv(conv_cfg, before, after, 1, 1 if avg_down else stride, 1))
    return layers


def _stem(stem_type: StemType, in_channels: int, channels: int, types: dict[str, Any]) -> dict[str, nn.Module]:
    if not stem_type or stem_type == "fixed":
        return {"stem.conv": _conv(types["conv_cfg"], in_channels, channels, 7, 2, 1)}
    widths = (in_channels, 3 * channels // 8 if stem_type == "tiered" else channels // 2, channels // 2, channels)
    layers: dict[str, nn.Module] = {}
    for index, (before, after) in enumerate(pairwise(widths), 1):
        layers[f"stem.conv{index}"] = _conv(types["conv_cfg"], before, after, 3, 2 if index == 1 else 1, 1)
        if index < 3:
            layers |= {f"stem.norm{index}": _norm(types, after), f"stem.act{index}": _act(types)}
    return layers


def _conv(conv_cfg: ConvCfg | None, before: int, after: int, side: int, stride: int, dilation: int) -> nn.Module:
    padding = dilation * (side // 2)
    return build_conv(conv_cfg, before, after, side, stride=stride, padding=padding, dilation=dilation)


def _norm(types: dict[str, Any], channels: int) -> nn.Module:
    with located("norm_cfg"):
        return build_norm_layer(types["norm_cfg"], channels)[1]


def _act(types: dict[str, Any]) -> nn.Module:
    with located("act_cfg"):
        return build_activation_layer(types["act_cfg"])
