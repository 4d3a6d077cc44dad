"""The two blocks of a ResNet.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.1 and figure 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..layers import ActivationCfg
from .convs import build_conv, build_spatial_conv
from .residual import BN, PluginEntry, ResidualBlock, Style
from .types import ConvCfg, DeformableCfg, NormCfg


class BasicBlock(ResidualBlock):
    """x + f(x), f = 3x3, 3x3.

    Args:
        inplanes: Channels of the input.
        planes: Channels of both convolutions.
        stride: Stride of the first 3x3, in either `style`.
        dilation: Dilation of the first 3x3.
        downsample: The shortcut, where the shape changes.
        style: Without effect on this block: there is no 1x1 that could have the stride.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg: Type of the convolutions.
        norm_cfg: Type of the norms; None: BatchNorm.
        dcn: Type of the second 3x3, in place of `conv_cfg`.
        plugins: Plugins at 'after_conv1' (behind the activation) and 'after_conv2' (before the sum).
        init_cfg: Must be None: the backbone initialises its blocks.
        act_cfg: Type of the activations; None: ReLU.
        drop_path: Probability that f(x) is dropped for a picture while training.
    """

    expansion = 1
    positions = ("after_conv1", "after_conv2")

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
    ) -> None:
        super().__init__(style=style, with_cp=with_cp, drop_path=drop_path, init_cfg=init_cfg)
        norm_cfg = BN if norm_cfg is None else norm_cfg
        self.add_conv_norm(
            build_spatial_conv(conv_cfg, None, inplanes, planes, stride, padding=dilation, dilation=dilation),
            norm_cfg,
            planes,
        )
        self.add_conv_norm(build_spatial_conv(conv_cfg, dcn, planes, planes, 1, padding=1), norm_cfg, planes)
        self.add_tail(downsample, act_cfg)
        self.add_plugins(plugins, {"after_conv1": planes, "after_conv2": planes})

    def residual(self, x: Tensor) -> Tensor:
        """f(x), without the last activation."""
        out = self.plugged("after_conv1", self.relu(self.conv_norm(1, x)))
        return self.plugged("after_conv2", self.conv_norm(2, out))


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
        plugins: Plugins at 'after_conv1', 'after_conv2' (both behind the activation) and 'after_conv3' (before the
            sum).
        init_cfg: Must be None: the backbone initialises its blocks.
        act_cfg: Type of the activations; None: ReLU.
        drop_path: Probability that f(x) is dropped for a picture while training.
        width: Channels inside, before the last 1x1; None: `planes`.
        groups: Groups of the 3x3.
    """

    expansion = 4
    positions = ("after_conv1", "after_conv2", "after_conv3")

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
    ) -> None:
        super().__init__(style=style, with_cp=with_cp, drop_path=drop_path, init_cfg=init_cfg)
        norm_cfg = BN if norm_cfg is None else norm_cfg
        width = planes if width is None else width
        outplanes = planes * self.expansion
        first, spatial = (stride, 1) if style == "caffe" else (1, stride)
        inside = {"padding": dilation, "dilation": dilation, "groups": groups}
        self.add_conv_norm(build_conv(conv_cfg, inplanes, width, 1, stride=first), norm_cfg, width)
        self.add_conv_norm(build_spatial_conv(conv_cfg, dcn, width, width, spatial, **inside), norm_cfg, width)
        self.add_conv_norm(build_conv(conv_cfg, width, outplanes, 1), norm_cfg, outplanes)
        self.add_tail(downsample, act_cfg)
        self.add_plugins(plugins, {"after_conv1": width, "after_conv2": width, "after_conv3": outplanes})

    @property
    def norm3(self) -> nn.Module:
        """The norm of the third convolution."""
        return self.norm(3)

    def residual(self, x: Tensor) -> Tensor:
        """f(x), without the last activation."""
        out = self.plugged("after_conv1", self.relu(self.conv_norm(1, x)))
        out = self.plugged("after_conv2", self.relu(self.conv_norm(2, out)))
        return self.plugged("after_conv3", self.conv_norm(3, out))
