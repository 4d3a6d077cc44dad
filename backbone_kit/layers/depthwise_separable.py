"""A convolution in two steps: over the map in each channel, then over the channels at each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from .activation import ActivationCfg
from .conv import ConvCfg
from .conv_module import RELU, ConvModule
from .norm import NormCfg
from .plugin import PLUGIN_LAYERS


@PLUGIN_LAYERS.register_module()
class DepthwiseSeparableConvModule(nn.Module):
    """Two `ConvModule`s: `depthwise_conv`, with a group a channel, and `pointwise_conv`, a 1x1.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size, stride, padding, dilation: Of the depthwise convolution.
        norm_cfg: Type of both norms, None for none.
        act_cfg: Type of both activations, None for none.
        dw_norm_cfg, dw_act_cfg, pw_norm_cfg, pw_act_cfg: The same for one of the two; 'default': as both.
        bias, conv_cfg, inplace, with_spectral_norm, padding_mode, order: Of both, as `ConvModule` has them.

    Raises:
        ConfigError: A `ConvModule` refuses what it is given.

    Source: Howard et al., MobileNets, arXiv 1704.04861, section 3.1; MMCV has it under this name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = RELU,
        dw_norm_cfg: NormCfg | Literal["default"] | None = "default",
        dw_act_cfg: ActivationCfg | Literal["default"] | None = "default",
        pw_norm_cfg: NormCfg | Literal["default"] | None = "default",
        pw_act_cfg: ActivationCfg | Literal["default"] | None = "default",
        *,
        bias: bool | Literal["auto"] = "auto",
        conv_cfg: ConvCfg | None = None,
        inplace: bool = True,
        with_spectral_norm: bool = False,
        padding_mode: str = "zeros",
        order: Sequence[Literal["conv", "norm", "act"]] = ("conv", "norm", "act"),
    ) -> None:
        super().__init__()
        both: dict[str, Any] = dict(
            bias=bias,
            conv_cfg=conv_cfg,
            inplace=inplace,
            with_spectral_norm=with_spectral_norm,
            padding_mode=padding_mode,
            order=order,
        )
        self.depthwise_conv = ConvModule(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups=in_channels,
            norm_cfg=norm_cfg if dw_norm_cfg == "default" else dw_norm_cfg,
            act_cfg=act_cfg if dw_act_cfg == "default" else dw_act_cfg,
            **both,
        )
        self.pointwise_conv = ConvModule(
            in_channels,
            out_channels,
            1,
            norm_cfg=norm_cfg if pw_norm_cfg == "default" else pw_norm_cfg,
            act_cfg=act_cfg if pw_act_cfg == "default" else pw_act_cfg,
            **both,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H', W')."""
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y
