"""Spatial attention as a sum of up to four terms, of content and of relative position."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .plugin import PLUGIN_LAYERS

_WAVE_LENGTH = 1000  # in input pixels, of the slowest sine of the position embedding


@PLUGIN_LAYERS.register_module()
class GeneralizedAttention(nn.Module):
    """x + gamma · proj(sum over pixels j of softmax_j(energy(i, j)) · value(x_j)), in several heads.

    The energy of query i and key j is the sum of those of four terms that `attention_type` chooses: q·k, q·r, a·k and
    b·r, with q and k embeddings of their content, r of their distance, and learned vectors a and b.

    Args:
        in_channels: Channels C of the map.
        spatial_range: How many pixels, in either direction, attention reaches; -1 means the whole map.
        num_heads: How many heads; each has C / num_heads channels, rounded down.
        position_embedding_dim: Channels of the sines that embed a distance, a multiple of 4; -1 means C, down to one.
        position_magnitude: A factor on distances.
        kv_stride: Only every so manieth pixel is a key.
        q_stride: Only every so manieth pixel is a query; what lies between is interpolated.
        attention_type: One '1' or '0' for each of the four terms, as '0010'.

    Raises:
        ConfigError: No channels are left for a head, or an argument is none of those above.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Zhu et al., An Empirical Study of Spatial Attention Mechanisms in Deep Networks, arXiv 1904.05873,
    section 3.
    """

    _abbr_ = "gen_attention_block"

    def __init__(
        self,
        in_channels: int,
        spatial_range: int = -1,
        num_heads: int = 9,
        position_embedding_dim: int = -1,
        position_magnitude: float = 1,
        kv_stride: int = 2,
        q_stride: int = 1,
        attention_type: str = "1111",
    ) -> None:
        super().__init__()
        if len(attention_type) != 4 or not set(attention_type) <= {"0", "1"} or "1" not in attention_type:
            reason = f"must be four of '0' and '1' with a '1' among them, got {attention_type!r}"
            raise ConfigError(reason, ("attention_type",))
        if not 1 <= num_heads <= in_channels:
            raise ConfigError(f"must be from 1 to in_channels (={in_channels}), got {num_heads}", ("num_heads",))
        for name, value, least in (
            ("spatial_range", spatial_range, -1),
            ("kv_stride", kv_stride, 1),
            ("q_stride", q_stride, 1),
        ):
            if value < least:
                raise ConfigError(f"must be {least} or more, got {value}", (name,))
        self.terms = tuple(term == "1" for term in attention_type)
        query_key, query_position, key_only, position_only = self.terms
        self.in_channels = in_channels
        self.spatial_range = spatial_range
        self.num_heads = num_heads
        self.position_dim = position_embedding_dim if position_embedding_dim > 0 else max(in_channels // 4 * 4, 4)
        self.position_magnitude = position_magnitude
        self.kv_stride = kv_stride
        self.q_stride = q_stride
        if (query_position or position_only) and self.position_dim % 4:
            raise ConfigError(f"must be a multiple of 4, got {self.position_dim}", ("position_embedding_dim",))

        embedded = in_channels // num_heads * num_heads
        if query_key or query_position:
            self.query_conv = nn.Conv2d(in_channels, embedded, kernel_size=1, bias=False)
        if query_key or key_only:
            self.key_conv = nn.Conv2d(in_channels, embedded, kernel_size=1, bias=False)
        self.value_conv = nn.Conv2d(in_channels, embedded, kernel_size=1, bias=False)
        if query_position or position_only:
            self.appr_geom_fc_x = nn.Linear(self.position_dim // 2, embedded, bias=False)
            self.appr_geom_fc_y = nn.Linear(self.position_dim // 2, embedded, bias=False)
        if key_only:
            self.appr_bias = nn.Parameter(torch.empty(embedded))
        if position_only:
            self.geom_bias = nn.Parameter(torch.empty(embedded))
        self.proj_conv = nn.Conv2d(embedded, in_channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.init_weights()

    def init_weights(self) -> None:
        """Draws the weights anew; the block starts as the identity."""
        bound = 1 / math.sqrt(2 * (self.value_conv.out_channels // self.num_heads))
        for name, parameter in self.named_parameters():
            if name in ("gamma", "proj_conv.bias"):
                nn.init.zeros_(parameter)
            elif name in ("appr_bias", "geom_bias"):
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.kaiming_uniform_(parameter, a=1)

    def forward(self, x: Tensor) -> Tensor:
        """The map with what its pixels attend to; shape (N, C, H, W)."""
        queries = x[:, :, :: self.q_stride, :: self.q_stride]
        keys = x[:, :, :: self.kv_stride, :: self.kv_stride]
        energy = self._energy(queries, keys)  # (N, heads, H, W, H', W')
        if self.spatial_range >= 0:
            energy = energy.masked_fill(~self._within_reach(queries, keys), float("-inf"))
        attention = energy.flatten(-2).softmax(-1)
        value = self._heads(self.value_conv(keys)).flatten(3)
        out: Tensor = self.proj_conv(torch.einsum("neyxk,nedk->nedyx", attention, value).flatten(1, 2))
        if self.q_stride > 1:
            out = F.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x + self.gamma * out

    def _energy(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The chosen terms; size 1 along what they do not depend on: the queries, where only keys count."""
        query_key, query_position, key_only, position_only = self.terms
        query = self._heads(self.query_conv(queries)) if query_key or query_position else None
        energies: list[Tensor] = []
        if query_key or key_only:
            content = _sum(query if query_key else None, self._vector(self.appr_bias) if key_only else None)
            energies.append(torch.einsum("nedyx,nedvu->neyxvu", content, self._heads(self.key_conv(keys))))
        if query_position or position_only:
            place = _sum(query if query_position else None, self._vector(self.geom_bias) if position_only else None)
            x_table = self._distances(self.appr_geom_fc_x, queries.shape[3], keys.shape[3])
            y_table = self._distances(self.appr_geom_fc_y, queries.shape[2], keys.shape[2])
            along_x = torch.einsum("nedyx,xued->neyxu", place, x_table).unsqueeze(-2)
            along_y = torch.einsum("nedyx,yved->neyxv", place, y_table).unsqueeze(-1)
            energies.append(along_x + along_y)
        return _sum(*energies)

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (self.num_heads, -1))

    def _vector(self, x: Tensor) -> Tensor:
        return x.view(1, self.num_heads, -1, 1, 1)

    def _distances(self, embed: nn.Linear, queries: int, keys: int) -> Tensor:
        """The embeddings of all distances along one axis, shape (queries, keys, heads, C / heads)."""
        kind = torch.promote_types(embed.weight.dtype, torch.float32)
        query, key, sine = (
            torch.arange(size, device=embed.weight.device, dtype=kind)
            for size in (queries, keys, self.position_dim // 4)
        )
        distance = (query.unsqueeze(1) * self.q_stride - key * self.kv_stride) * self.position_magnitude
        angle = distance.unsqueeze(-1) / torch.pow(_WAVE_LENGTH, sine * 4 / self.position_dim)
        sines = torch.cat((angle.sin(), angle.cos()), -1).to(embed.weight.dtype)
        return torch.unflatten(embed(sines) / math.sqrt(2), -1, (self.num_heads, -1))

    def _within_reach(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which keys a query may see, shape (H, W, H', W')."""
        y, x = (self._axis_reach(queries.shape[axis], keys.shape[axis], queries.device) for axis in (2, 3))
        return y[:, None, :, None] & x[None, :, None, :]

    def _axis_reach(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """The same along one axis, shape (queries, keys); queries by their index, not times `q_stride`, as in mmcv."""
        query = torch.arange(queries, device=device).unsqueeze(1)
        key = torch.arange(keys, device=device)
        first = (query - self.spatial_range) // self.kv_stride
        last = (query + self.spatial_range + 1) // self.kv_stride
        return (first <= key) & (key <= last)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}local_constraint_map", None)  # what `_within_reach` computes
        super()._load_from_state_dict(state_dict, prefix, *args)


def _sum(*terms: Tensor | None) -> Tensor:
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0])
