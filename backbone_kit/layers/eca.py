"""Efficient channel attention: every channel is scaled by a gate that its neighbours decide about."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..errors import ConfigError, located
from .activation import ActivationCfg, build_activation_layer
from .plugin import PLUGIN_LAYERS
from .ranges import check_positive
from .se_layer import SIGMOID


@PLUGIN_LAYERS.register_module(("ECA", "eca"))
class ECA(nn.Module):
    """x · gate(w * mean(x)), with one kernel w sliding over the channels.

    Args:
        in_channels: Channels C of the map.
        kernel_size: Length of the kernel, odd; None: |log2(C) + beta| / gamma, rounded down and then up to an odd
            number, at least 3.
        gamma, beta: Of that formula.
        gate_cfg: Type of the gate.

    Raises:
        ConfigError: `kernel_size` is even or less than 1, or `gamma` is not positive.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Wang et al., ECA-Net, arXiv 1910.03151, section 3.2; the kernel of its equation 12 as the authors' code and
    timm round it, never below 3.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        gate_cfg: ActivationCfg = SIGMOID,
    ) -> None:
        super().__init__()
        check_positive(gamma=gamma)
        if kernel_size is None:
            kernel_size = max(int(abs(math.log2(in_channels) + beta) / gamma) | 1, 3)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"must be odd and positive, got {kernel_size}", ("kernel_size",))
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        with located("gate_cfg"):
            self.gate = build_activation_layer(gate_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per channel; shape (N, C, H, W)."""
        y = self.conv(x.mean((2, 3)).unsqueeze(1))
        gate: Tensor = self.gate(y)  # (N, 1, C)
        return x * gate.mT.unsqueeze(-1)
