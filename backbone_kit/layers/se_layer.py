"""Squeeze and excitation: every channel is scaled by a gate that all channels of the map decide about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from ..errors import ConfigError
from .activation import ActivationCfg
from .channels import make_divisible, reduced_channels
from .conv import ConvCfg
from .conv_module import RELU, ConvModule
from .plugin import PLUGIN_LAYERS
from .ranges import check_positive

SIGMOID: ActivationCfg = MappingProxyType({"type": "Sigmoid"})


@PLUGIN_LAYERS.register_module()
class SELayer(nn.Module):
    """x · gate(W2 · act(W1 · mean(x))), with W1 and W2 as 1x1 convolutions.

    Args:
        in_channels: Channels C of the map.
        squeeze_channels: Channels between W1 and W2; None: C // ratio, rounded to a multiple of `divisor` as
            `make_divisible` does.
        ratio: C over the channels between, before they are rounded.
        divisor: What they are a multiple of: 8 in MMPretrain, 1 in MMDetection.
        bias: Whether W1 and W2 have one; 'auto': they have.
        conv_cfg: Type of the convolutions, None for Conv2d.
        act_cfg: Types of act and gate; one config stands for both.

    Raises:
        ConfigError: A number is not positive, or `act_cfg` has not two configs.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3.
    """

    _abbr_ = "se_layer"

    def __init__(
        self,
        in_channels: int,
        squeeze_channels: int | None = None,
        ratio: float = 16,
        divisor: int = 8,
        bias: bool | Literal["auto"] = "auto",
        conv_cfg: ConvCfg | None = None,
        act_cfg: ActivationCfg | Sequence[ActivationCfg] = (RELU, SIGMOID),
    ) -> None:
        super().__init__()
        check_positive(squeeze_channels=squeeze_channels, ratio=ratio, divisor=divisor)
        if squeeze_channels is None:
            squeeze_channels = make_divisible(in_channels // ratio, divisor)
        act, gate = _pair(act_cfg)
        self.conv1 = ConvModule(in_channels, squeeze_channels, 1, bias=bias, conv_cfg=conv_cfg, act_cfg=act)
        self.conv2 = ConvModule(squeeze_channels, in_channels, 1, bias=bias, conv_cfg=conv_cfg, act_cfg=gate)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per channel; shape (N, C, H, W)."""
        gate: Tensor = self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))
        return x * gate


@PLUGIN_LAYERS.register_module("se")
def squeeze_excite(
    in_channels: int,
    rd_ratio: float = 1 / 16,
    rd_channels: int | None = None,
    rd_divisor: int = 8,
    round_limit: float = 0.0,
    bias: bool = True,
    act_cfg: ActivationCfg | Sequence[ActivationCfg] = (RELU, SIGMOID),
) -> SELayer:
    """An `SELayer` by timm's arguments, with the channels between that timm gives it.

    Args:
        in_channels: Channels C of the map.
        rd_ratio: Channels between over C, before they are rounded.
        rd_channels: Channels between; None: C · rd_ratio, rounded.
        rd_divisor: What they are rounded to a multiple of.
        round_limit: As in `make_divisible`; 0: to the nearest, as timm does.
        bias: Whether the convolutions have one.
        act_cfg: Types of act and gate; one config stands for both.

    Raises:
        ConfigError: A number is not positive, or `act_cfg` has not two configs.

    Source: as `SELayer`; timm has it under this name.
    """
    rd_channels = reduced_channels(in_channels, rd_ratio, rd_channels, rd_divisor, round_limit)
    return SELayer(in_channels, rd_channels, bias=bias, act_cfg=act_cfg)


def _pair(act_cfg: ActivationCfg | Sequence[ActivationCfg]) -> tuple[ActivationCfg, ActivationCfg]:
    if isinstance(act_cfg, Mapping):
        return act_cfg, act_cfg
    if len(act_cfg) != 2:
        raise ConfigError(f"must be one config or two, of activation and gate, got {len(act_cfg)}", ("act_cfg",))
    return act_cfg[0], act_cfg[1]
