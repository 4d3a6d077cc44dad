"""The two blocks of a ResNet.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.1 and figure 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..layers import ActivationCfg
from .convs import build_conv, build_spatial_conv
from .residual import BN, PluginEntry, ResidualBlock, Style
from .types import ConvCfg, DeformableCfg, NormCfg


class BasicBlock(ResidualBlock):
    """x + f(x), f = 3x3, 3x3.

    Args:
        inplanes: Channels of the input.
        planes: Channels of the second convolution and of the output.
        stride: Stride of the first 3x3, in either `style`.
        dilation: Dilation of the first 3x3.
        downsample: The shortcut, where the shape changes.
        style: Without effect on this block: there is no 1x1 that could have the stride.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg: Type of the convolutions.
        norm_cfg: Type of the norms; None: BatchNorm.
        dcn: Type of the second 3x3, in place of `conv_cfg`.
        plugins: Plugins at 'after_norm1', 'after_conv1' (behind the activation) and 'after_conv2' (before the sum).
        init_cfg: Must be None: the backbone initialises its blocks.
        act_cfg: Type of the activations; None: ReLU.
        drop_path: Probability that f(x) is dropped for a picture while training.
        reduce_first: How many times fewer channels the first 3x3 has.
        second_dilation: Dilation of the second 3x3.
        anti_alias: Builds what has the first 3x3's stride in its place, from (channels, stride); None: nothing does.
        spatial_conv: Builds the first 3x3, with its own norm and activation, as `Bottleneck` has it.
    """

    expansion = 1
    positions = ("after_norm1", "after_conv1", "after_conv2")
    inner = "after_norm1"

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: Style = "pytorch",
        with_cp: bool = False,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        dcn: DeformableCfg | None = None,
        plugins: Sequence[PluginEntry | None] | None = None,
        init_cfg: None = None,
        *,
        act_cfg: ActivationCfg | None = None,
        drop_path: float = 0.0,
        reduce_first: int = 1,
        second_dilation: int = 1,
        anti_alias: Callable[[int, int], nn.Module] | None = None,
        spatial_conv: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__(style=style, with_cp=with_cp, drop_path=drop_path, init_cfg=init_cfg)
        norm_cfg = BN if norm_cfg is None else norm_cfg
        width = planes // reduce_first
        first, pool = (stride, None) if anti_alias is None else (1, anti_alias(width, stride))
        inside = {"stride": first, "padding": dilation, "dilation": dilation}
        if spatial_conv is None:
            self.add_conv_norm(build_spatial_conv(conv_cfg, None, inplanes, width, **inside), norm_cfg, width)
        else:
            self.add_conv(spatial_conv(inplanes, width, **inside))
        self.add_pool(pool)
        inside = {"stride": 1, "padding": second_dilation, "dilation": second_dilation}
        self.add_conv_norm(build_spatial_conv(conv_cfg, dcn, width, planes, **inside), norm_cfg, planes)
        self.add_tail(downsample, act_cfg)
        self.add_plugins(plugins, dict(zip(self.positions, (width, width, planes))))

    def before_last(self, x: Tensor) -> Tensor:
        """f(x) up to its last convolution."""
        return self.layer(1, x)


class Bottleneck(ResidualBlock):
    """x + f(x), f = 1x1, 3x3, 1x1.

    Args:
        inplanes: Channels of the input.
        planes: Channels of the 3x3; the output has four times as many.
        stride: Stride of the 3x3 ('pytorch') or of the first 1x1 ('caffe').
        dilation: Dilation of the 3x3.
        downsample: The shortcut, where the shape changes.
        style: Which convolution has the stride.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg: Type of the convolutions.
        norm_cfg: Type of the norms; None: BatchNorm.
        dcn: Type of the 3x3, in place of `conv_cfg`; with `fallback_on_stride`, only where its stride is 1.
        plugins: Plugins at 'after_norm1', 'after_norm2', 'after_conv1', 'after_conv2' (the latter two behind the
            activations) and 'after_conv3' (before the sum).
        init_cfg: Must be None: the backbone initialises its blocks.
        act_cfg: Type of the activations; None: ReLU.
        drop_path: Probability that f(x) is dropped for a picture while training.
        width: Channels inside, before the last 1x1; None: `planes`.
        groups: Groups of the 3x3.
        reduce_first: How many times fewer channels the first 1x1 has.
        anti_alias: Builds what has the 3x3's stride in its place, from (channels, stride); None: nothing does.
        pool_first: Whether that stands before the 3x3, not behind it.
        spatial_conv: Builds the 3x3, with its own norm and activation: called with (in_channels, out_channels) and
            `stride`, `padding`, `dilation`, `groups`, and `dcn` where there is one.
    """

    expansion = 4
    positions = ("after_norm1", "after_conv1", "after_norm2", "after_conv2", "after_conv3")
    inner = "after_norm2"

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: Style = "pytorch",
        with_cp: bool = False,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        dcn: DeformableCfg | None = None,
        plugins: Sequence[PluginEntry | None] | None = None,
        init_cfg: None = None,
        *,
        act_cfg: ActivationCfg | None = None,
        drop_path: float = 0.0,
        width: int | None = None,
        groups: int = 1,
        reduce_first: int = 1,
        anti_alias: Callable[[int, int], nn.Module] | None = None,
        pool_first: bool = False,
        spatial_conv: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__(style=style, with_cp=with_cp, drop_path=drop_path, init_cfg=init_cfg)
        norm_cfg = BN if norm_cfg is None else norm_cfg
        width = planes if width is None else width
        reduced, outplanes = width // reduce_first, planes * self.expansion
        first, spatial = (stride, 1) if style == "caffe" else (1, stride)
        self.add_conv_norm(build_conv(conv_cfg, inplanes, reduced, 1, stride=first), norm_cfg, reduced)

        spatial, pool = (spatial, None) if anti_alias is None else (1, anti_alias(width, spatial))
        if pool_first:
            self.add_pool(pool)
        inside = {"stride": spatial, "padding": dilation, "dilation": dilation, "groups": groups}
        if spatial_conv is None:
            self.add_conv_norm(build_spatial_conv(conv_cfg, dcn, reduced, width, **inside), norm_cfg, width)
        else:
            self.add_conv(spatial_conv(reduced, width, **inside, **({} if dcn is None else {"dcn": dcn})))
        if not pool_first:
            self.add_pool(pool)

        self.add_conv_norm(build_conv(conv_cfg, width, outplanes, 1), norm_cfg, outplanes)
        self.add_tail(downsample, act_cfg)
        widths = (reduced, reduced, width, width, outplanes)
        self.add_plugins(plugins, dict(zip(self.positions, widths)))

    @property
    def norm3(self) -> nn.Module:
        """The norm of the third convolution."""
        return self.norm(3)

    def before_last(self, x: Tensor) -> Tensor:
        """f(x) up to its last convolution."""
        return self.layer(2, self.layer(1, x))
