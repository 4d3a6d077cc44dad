"""BatchNorm that stays as it was loaded, and the conversion of whole models to it and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from .norm import NORM_LAYERS
from .replace import replace_modules


@NORM_LAYERS.register_module("FrozenBN")
class FrozenBatchNorm2d(nn.Module):
    """`(x - running_mean) / sqrt(running_var + eps) * weight + bias`, all four of them buffers that never change.

    Loads what a BatchNorm saved. No copy of the input is kept for the backward pass.

    Args:
        num_features: Channels C.
        eps: Added to the variance.
    """

    _abbr_ = "bn"
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(num_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to (nearly, for eps) the identity."""
        for one, zero in ((self.weight, self.bias), (self.running_var, self.running_mean)):
            one.fill_(1)
            zero.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C, ...) in the dtype of `x`."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        per_channel = (1, -1) + (1,) * (x.ndim - 2)
        return torch.addcmul(shift.to(x.dtype).view(per_channel), x, scale.to(x.dtype).view(per_channel))

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"{self.num_features}, eps={self.eps}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        kept = {key: value for key, value in state_dict.items() if key != f"{prefix}num_batches_tracked"}
        super()._load_from_state_dict(kept, prefix, *args)


def scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """What a BatchNorm in eval mode, or a FrozenBatchNorm2d, multiplies each channel with, and adds then.

    Args:
        norm: One with running statistics.

    Returns:
        Two tensors of shape (C,), in float32 at least.
    """
    exact = torch.promote_types(norm.running_var.dtype, torch.float32)
    scale = (norm.running_var.to(exact) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else norm.bias + shift


def freeze_batch_norms(model: nn.Module) -> nn.Module:
    """Replaces every BatchNorm (SyncBatchNorm included) by a FrozenBatchNorm2d that computes what it did in eval mode.

    Args:
        model: Changed in place, hooks on the replaced layers are lost.

    Returns:
        `model`, or the new layer where `model` itself is a BatchNorm.

    Raises:
        ConfigError: A BatchNorm has no running statistics. Nothing is replaced then.
    """
    return _replace(model, _BatchNorm, _frozen)


def thaw_batch_norms(model: nn.Module) -> nn.Module:
    """Replaces every FrozenBatchNorm2d by a trainable BatchNorm2d with its weights and statistics.

    Args:
        model: Changed in place. What kind of BatchNorm, and what momentum, there was before is not known any more.

    Returns:
        `model`, or the new layer where `model` itself is a FrozenBatchNorm2d.
    """
    return _replace(model, FrozenBatchNorm2d, _thawed)


def _frozen(norm: Any) -> nn.Module:
    if norm.running_mean is None:
        raise ConfigError("a BatchNorm with track_running_stats=False cannot be frozen: it has no running statistics")
    return _with_state_of(norm, FrozenBatchNorm2d(norm.num_features, norm.eps))


def _thawed(norm: Any) -> nn.Module:
    return _with_state_of(norm, nn.BatchNorm2d(norm.num_features, norm.eps))


def _with_state_of(old: Any, new: nn.Module) -> nn.Module:
    new.to(old.running_mean).load_state_dict(old.state_dict(), strict=False)  # affine=False: ones and zeros stay
    return new.train(old.training)


def _replace(model: nn.Module, kind: type[nn.Module], convert: Callable[[Any], nn.Module]) -> nn.Module:
    return replace_modules(model, {layer: convert(layer) for layer in model.modules() if isinstance(layer, kind)})
