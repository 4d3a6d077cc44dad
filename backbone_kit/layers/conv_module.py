"""Convolution, norm and activation in one module, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from ..errors import ConfigError, did_you_mean, located
from ..signature import check_arguments, parameters
from .activation import ACTIVATION_LAYERS, ActivationCfg, build_activation_layer
from .conv import ConvCfg, build_conv_layer
from .conv_norm import run_layers
from .norm import NormCfg, build_norm_layer
from .padding import PADDING_LAYERS, build_padding_layer
from .plugin import PLUGIN_LAYERS
from .weight_init import initialize

RELU: ActivationCfg = MappingProxyType({"type": "ReLU"})


@PLUGIN_LAYERS.register_module()
class ConvModule(nn.Module):
    """A convolution with its norm and its activation: children `conv`, `bn` (or `gn`, …) and `activate`.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels of the output.
        kernel_size, stride, padding, dilation, groups: Of the convolution.
        bias: Of the convolution; 'auto' gives it one unless a norm follows, which would take it out again.
        conv_cfg: Type of the convolution, None for Conv2d.
        norm_cfg: Type of the norm, None for none.
        act_cfg: Type of the activation, None for none.
        inplace: Whether the activation overwrites its input, if it can and a convolution in here has made that input.
        with_spectral_norm: Whether the weight is divided by its largest singular value (keys `conv.weight_orig`, …).
        padding_mode: 'zeros', or a type of padding layer: 'reflect', 'replicate', 'circular'.
        order: Some or all of 'conv', 'norm', 'act', each once, 'conv' among them.

    Raises:
        ConfigError: An argument is of the wrong kind, or would have no effect.

    Attributes:
        norm_name: The name under which the norm is registered, None where there is none.
    """

    _abbr_ = "conv_block"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool | Literal["auto"] = "auto",
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = RELU,
        inplace: bool = True,
        with_spectral_norm: bool = False,
        padding_mode: str = "zeros",
        order: Sequence[Literal["conv", "norm", "act"]] = ("conv", "norm", "act"),
    ) -> None:
        super().__init__()
        _check(bias=bias, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, padding_mode=padding_mode, order=order)
        self.in_channels = in_channels
        self.out_channels = out_channels
        norm_follows = norm_cfg is not None and order.index("conv") < order.index("norm")
        children: dict[str, list[str]] = {"conv": [], "norm": [], "act": []}

        if padding_mode != "zeros":
            self.padding_layer = build_padding_layer({"type": padding_mode}, _sides(padding))
            children["conv"].append("padding_layer")
        with located(*(() if conv_cfg is None else ("conv_cfg",))):
            self.conv = build_conv_layer(
                conv_cfg,
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=padding if padding_mode == "zeros" else 0,
                dilation=dilation,
                groups=groups,
                bias=not norm_follows if bias == "auto" else bias,
            )
        children["conv"].append("conv")
        if padding_mode != "zeros" and isinstance(self.conv, (nn.Conv1d, nn.Conv3d, _ConvTransposeNd)):
            kind = type(self.conv).__name__
            raise ConfigError(f"must be 'zeros' for a {kind}, got {padding_mode!r}", ("padding_mode",))
        self.norm_name: str | None = None
        if norm_cfg is not None:
            with located("norm_cfg"):
                self.norm_name, norm = build_norm_layer(norm_cfg, out_channels if norm_follows else in_channels)
            self.add_module(self.norm_name, norm)
            children["norm"].append(self.norm_name)
        if act_cfg is not None and "act" in order:
            owns_input = order.index("conv") < order.index("act")
            with located("act_cfg"):
                self.activate = build_activation_layer(_with_inplace(act_cfg, inplace) if owns_input else act_cfg)
            children["act"].append("activate")
        self._steps = [(step, name) for step in order for name in children[step]]

        if not hasattr(self.conv, "init_weights"):
            slope = getattr(getattr(self, "activate", None), "negative_slope", 0)  # 0 is ReLU's
            kaiming = {"type": "Kaiming", "a": slope, "nonlinearity": "leaky_relu"}
            initialize(self.conv, {**kaiming, "layer": type(self.conv).__name__})
        if with_spectral_norm:
            self.conv = nn.utils.spectral_norm(self.conv)

    @property
    def norm(self) -> nn.Module | None:
        """The norm, None where there is none."""
        return None if self.norm_name is None else getattr(self, self.norm_name)

    @property
    def with_norm(self) -> bool:
        """Whether there is a norm."""
        return self.norm_name is not None

    @property
    def with_activation(self) -> bool:
        """Whether there is an activation."""
        return hasattr(self, "activate")

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H', W').

        Args:
            x: The map.
            activate: False leaves the activation out.
            norm: False leaves the norm out.
        """
        wanted = {"conv": True, "norm": norm, "act": activate}
        return run_layers((getattr(self, name) for step, name in self._steps if wanted[step]), x)


def _check(**arguments: Any) -> None:
    problems = check_arguments(ConvModule, arguments, supplied=("in_channels", "out_channels", "kernel_size"))
    if problems:
        raise ConfigError(problems)
    mode, order = arguments["padding_mode"], list(arguments["order"])
    if mode not in ("zeros", *PADDING_LAYERS):
        hint = did_you_mean(mode, PADDING_LAYERS) or f"; allowed: 'zeros', {', '.join(map(repr, PADDING_LAYERS))}"
        raise ConfigError(f"unknown padding mode {mode!r}{hint}", ("padding_mode",))
    if "conv" not in order or len(set(order)) < len(order):
        raise ConfigError(f"must have 'conv', and nothing twice, got {order}", ("order",))
    for step, name in (("norm", "norm_cfg"), ("act", "act_cfg")):
        if step not in order and arguments[name] is not None and arguments[name] is not RELU:
            raise ConfigError(f"has no effect: order={order} has no {step!r}; add it there or remove this", (name,))


def _with_inplace(act_cfg: Mapping[str, Any], inplace: bool) -> Mapping[str, Any]:
    """The config with `inplace`, where that activation has it and the config does not say."""
    kind = act_cfg["type"]
    target = ACTIVATION_LAYERS.get(kind) if isinstance(kind, str) else kind
    return {"inplace": inplace, **act_cfg} if "inplace" in parameters(target) else act_cfg


def _sides(padding: int | Sequence[int]) -> int | tuple[int, ...]:
    """Padding as padding layers take it: (vertical, horizontal) as left, right, top, bottom."""
    return padding if isinstance(padding, int) else (padding[1], padding[1], padding[0], padding[0])
