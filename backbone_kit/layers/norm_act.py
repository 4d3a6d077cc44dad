"""Norms that are an activation too; a block that has one needs none beside it (`act_cfg=dict(type='Identity')`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .norm import NORM_LAYERS


class _Affine(nn.Module):
    """A factor, `weight`, and a summand, `bias`, for each channel, and one further parameter.

    Args:
        num_features: Channels C of the map.
        eps: Added to the variance or the mean square.
        further: Name and start of the further parameter.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, num_features: int, eps: float, further: tuple[str, float]) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self._starts = {"weight": 1.0, "bias": 0.0, further[0]: further[1]}
        for name in self._starts:
            self.register_parameter(name, nn.Parameter(torch.empty(num_features)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each parameter at its start."""
        for name, start in self._starts.items():
            nn.init.constant_(self.get_parameter(name), start)

    def per_channel(self, name: str, like: Tensor) -> Tensor:
        """A parameter in shape (C, 1, 1) and in the type of `like`."""
        return self.get_parameter(name).view(-1, 1, 1).to(like.dtype)

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"{self.num_features}, eps={self.eps}"


@NORM_LAYERS.register_module("EvoNormS0")
class EvoNormS0(_Affine):
    """x · sigmoid(v · x) / std(x) · weight + bias, with std over H, W and the channels of a group.

    Args:
        num_features: Channels C of the map.
        groups: Number of groups.
        eps: Added to the variance.

    Raises:
        ConfigError: C is not a multiple of `groups`.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Liu et al., "Evolving Normalization-Activation Layers", arXiv 2004.02967, table 2.
    """

    _abbr_ = "evo_norm"
    v: Tensor

    def __init__(self, num_features: int, groups: int = 32, eps: float = 1e-5) -> None:
        if groups < 1 or num_features % groups:
            raise ConfigError(f"must divide the {num_features} channels, got {groups}", ("groups",))
        super().__init__(num_features, eps, ("v", 1.0))
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        groups = precise.unflatten(1, (self.groups, -1))  # type: ignore[no-untyped-call]
        variance = groups.var((2, 3, 4), unbiased=False)
        scale = torch.rsqrt(variance + self.eps).repeat_interleave(self.num_features // self.groups, 1)
        gated = x * torch.sigmoid(x * self.per_channel("v", x))
        factor = self.per_channel("weight", x) * scale[..., None, None].to(x.dtype)
        return torch.addcmul(self.per_channel("bias", x), gated, factor)


@NORM_LAYERS.register_module("FRN")
class FilterResponseNorm2d(_Affine):
    """max(x / rms(x) · weight + bias, tau), with the root of the mean square over H and W.

    Args:
        num_features: Channels C of the map.
        eps: Added to the mean square.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Singh and Krishnan, "Filter Response Normalization Layer", arXiv 1911.09737, section 3.
    """

    _abbr_ = "frn"
    tau: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps, ("tau", 0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(precise.square().mean((2, 3), keepdim=True) + self.eps).to(x.dtype)
        y = torch.addcmul(self.per_channel("bias", x), x, self.per_channel("weight", x) * scale)
        return torch.maximum(y, self.per_channel("tau", x))
