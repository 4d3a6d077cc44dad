"""DropBlock: in training, whole squares of a map are zeroed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .plugin import PLUGIN_LAYERS


@PLUGIN_LAYERS.register_module()
class DropBlock(nn.Module):
    """In training, zeroes squares at random and scales what is left to the same sum; in eval, the identity.

    A square starts at a pixel with probability gamma = drop_prob · H · W / (k² · (H - k + 1) · (W - k + 1)), where k is
    `block_size`, or the side of the map where that is less. By default MMDetection's, with the schedule in the state
    dict; with `warmup_iters=0, couple_channels=True, whole_blocks=False`, timm's.

    Args:
        drop_prob: About the part of the map that is dropped, 0 to 1.
        block_size: Side of the squares in pixels of the map.
        warmup_iters: Training forwards over which gamma grows linearly from 0; 0: there is no schedule, nor its key.
        gamma_scale: A factor on gamma.
        couple_channels: Whether all channels of a picture lose the same squares.
        whole_blocks: Whether all squares lie within the map; otherwise centres lie anywhere in it.
        scale_by_keep: Whether what is left is scaled, by one factor for the whole batch.

    Attributes:
        iteration: How many training forwards there were; a checkpoint may lack it, which leaves it as it is.

    Raises:
        ConfigError: An argument is out of range.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Ghiasi et al., DropBlock, arXiv 1810.12890, section 3 and algorithm 1.
    """

    _abbr_ = "drop_block"
    optional_keys = ("iteration",)
    iteration: Tensor

    def __init__(
        self,
        drop_prob: float,
        block_size: int,
        warmup_iters: int = 2000,
        *,
        gamma_scale: float = 1.0,
        couple_channels: bool = False,
        whole_blocks: bool = True,
        scale_by_keep: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= drop_prob <= 1:
            raise ConfigError(f"must be between 0 and 1, got {drop_prob}", ("drop_prob",))
        for name, value, least in (("block_size", block_size, 1), ("warmup_iters", warmup_iters, 0)):
            if value < least:
                raise ConfigError(f"must be {least} or more, got {value}", (name,))
        if gamma_scale < 0:
            raise ConfigError(f"must be 0 or more, got {gamma_scale}", ("gamma_scale",))
        self.drop_prob = drop_prob
        self.block_size = block_size
        self.warmup_iters = warmup_iters
        self.gamma_scale = gamma_scale
        self.couple_channels = couple_channels
        self.whole_blocks = whole_blocks
        self.scale_by_keep = scale_by_keep
        if warmup_iters:
            self.register_buffer("iteration", torch.zeros((), dtype=torch.long))

    def reset_parameters(self) -> None:
        """Starts the schedule anew."""
        if self.warmup_iters:
            self.iteration.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        if not self.training or self.drop_prob == 0:
            return x
        with torch.no_grad():
            keep = self._keep(x)
            if self.scale_by_keep:
                keep = keep / keep.mean(dtype=torch.float32).clamp(min=1e-6).to(keep.dtype)
        return x * keep

    def _keep(self, x: Tensor) -> Tensor:
        """1 where the map stays and 0 where it is dropped, (N, C or 1, H, W)."""
        batch, channels, *size = x.shape
        side = [min(self.block_size, length) for length in size]
        starts = [length - k + 1 for length, k in zip(size, side)]  # where a whole square can start
        squares = side[0] * side[1] * starts[0] * starts[1]
        gamma = torch.full((), self.gamma_scale * self.drop_prob * size[0] * size[1] / squares, device=x.device)
        if self.warmup_iters:
            self.iteration.add_(1)
            gamma = gamma * (self.iteration / self.warmup_iters).clamp(max=1)
        seeds = x.new_empty((batch, 1 if self.couple_channels else channels, *(starts if self.whole_blocks else size)))
        seeds.bernoulli_(gamma.clamp(max=1))
        # A pixel is dropped for any seed in the window of k x k before it; or around it, later where k is even.
        before = [(k - 1, k - 1) if self.whole_blocks else ((k - 1) // 2, k // 2) for k in side]
        seeds = F.pad(seeds, (*before[1], *before[0]))
        return 1 - F.max_pool2d(seeds, side, stride=1)

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"drop_prob={self.drop_prob}, block_size={self.block_size}, warmup_iters={self.warmup_iters}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.warmup_iters:
            state_dict = {f"{prefix}iteration": self.iteration, **state_dict}
        super()._load_from_state_dict(state_dict, prefix, *args)
