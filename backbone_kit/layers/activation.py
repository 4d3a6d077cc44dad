"""Activations by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import nn

from ..errors import ConfigError
from ..registry import Registry

ACTIVATION_LAYERS = Registry("activation layer")
ActivationCfg = Annotated[Mapping[str, Any], ACTIVATION_LAYERS]

for _names, _layer in {
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "PReLU": nn.PReLU,
    "RReLU": nn.RReLU,
    "ReLU6": nn.ReLU6,
    "ELU": nn.ELU,
    "CELU": nn.CELU,
    "SELU": nn.SELU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    ("SiLU", "Swish"): nn.SiLU,
    "GELU": nn.GELU,
    "Mish": nn.Mish,
    "Hardtanh": nn.Hardtanh,
    "Hardsigmoid": nn.Hardsigmoid,
    ("HSwish", "Hardswish"): nn.Hardswish,
    "Softplus": nn.Softplus,
    "Softshrink": nn.Softshrink,
    "Softsign": nn.Softsign,
    "Hardshrink": nn.Hardshrink,
    "Tanhshrink": nn.Tanhshrink,
    "LogSigmoid": nn.LogSigmoid,
    "Threshold": nn.Threshold,
    "GLU": nn.GLU,  # halves the channels
    "Softmax": nn.Softmax,
    "Softmax2d": nn.Softmax2d,
    "Softmin": nn.Softmin,
    "LogSoftmax": nn.LogSoftmax,
    "Identity": nn.Identity,
}.items():
    ACTIVATION_LAYERS.register_module(_names, module=_layer)


@ACTIVATION_LAYERS.register_module(("Clamp", "Clip"))
class Clamp(nn.Module):
    """Values held between two bounds, elementwise; any shape.

    Args:
        min: Lower bound.
        max: Upper bound.
    """

    def __init__(self, min: float = -1.0, max: float = 1.0) -> None:
        super().__init__()
        self.min = min
        self.max = max

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Holds every value between the bounds."""
        return torch.clamp(x, self.min, self.max)


@ACTIVATION_LAYERS.register_module()
class HSigmoid(nn.Module):
    """`(x + bias) / divisor` held between two bounds, elementwise; any shape. By default `torch.nn.Hardsigmoid`.

    Args:
        bias: Added to the input.
        divisor: What the sum is divided by, not 0.
        min_value: Lower bound.
        max_value: Upper bound.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244, section 5.2.
    """

    def __init__(self, bias: float = 3.0, divisor: float = 6.0, min_value: float = 0.0, max_value: float = 1.0) -> None:
        super().__init__()
        if divisor == 0:
            raise ConfigError("must not be 0", ("divisor",))
        self.bias = bias
        self.divisor = divisor
        self.min_value = min_value
        self.max_value = max_value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps every value to its gate."""
        return torch.clamp((x + self.bias) / self.divisor, self.min_value, self.max_value)


def build_activation_layer(cfg: ActivationCfg) -> nn.Module:
    """An activation.

    Args:
        cfg: `type` and the arguments of that activation.

    Raises:
        ConfigError: The type or an argument is unknown.

    Examples:
        >>> build_activation_layer(dict(type='LeakyReLU', negative_slope=0.1))
        LeakyReLU(negative_slope=0.1)
    """
    module: nn.Module = ACTIVATION_LAYERS.construct(cfg)
    return module
