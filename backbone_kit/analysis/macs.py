"""Multiply-accumulates of one operation: convolutions, matrix products, attention, sampling at learned places.

One MAC is two FLOPs. On convolutions and products this agrees with `torch.utils.flop_counter`, which knows no sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .calls import Call


def count_macs(call: Call) -> int | None:
    """The multiply-accumulates of a call, None where no formula is known."""
    formula = FORMULAS.get(call.name)
    return None if formula is None else formula(call)


def is_light(call: Call) -> bool:
    """Whether a call is known to hold no convolution or matrix product: elementwise, a reduction, a norm, a pooling."""
    return call.name in LIGHT or call.pointwise


def is_free(call: Call) -> bool:
    """Whether a call only allocates, copies or views: no arithmetic."""
    return call.name in FREE


def _convolution(call: Call) -> int:
    x, weight = call.inputs[:2]
    over = x if call.get("transposed", False) else call.outputs[0]
    return over.numel() * math.prod(weight.shape[1:])


def _matmul(call: Call) -> int:
    return call.outputs[0].numel() * call.inputs[-2].shape[-1]


def _attention(call: Call) -> int:
    query, key, value = call.inputs[:3]
    return query.numel() * key.shape[-2] + math.prod(query.shape[:-1]) * value.shape[-2] * value.shape[-1]


def _embedding_bag(call: Call) -> int:
    weighted = call["per_sample_weights"] is not None  # else rows are only added
    return call["indices"].numel() * call["weight"].shape[1] if weighted else 0


def _bilinear(call: Call) -> int:
    return 4 * call.outputs[0].numel()


def _aten(names: str) -> list[str]:
    return [f"aten::{name}" for name in names.split()]


FORMULAS: dict[str, Callable[[Call], int]] = {
    **dict.fromkeys(("aten::convolution", "torchvision::deform_conv2d"), _convolution),
    **dict.fromkeys(_aten("mm addmm bmm baddbmm mv dot"), _matmul),
    **dict.fromkeys(
        _aten(
            "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
            "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
        ),
        _attention,
    ),
    **dict.fromkeys(_aten("_embedding_bag _embedding_bag_forward_only"), _embedding_bag),
    "aten::grid_sampler_2d": _bilinear,
}
LIGHT = frozenset(
    _aten(
        "native_batch_norm native_group_norm native_layer_norm native_dropout max_pool2d_with_indices max_pool2d "
        "avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d mean sum amax amin max min argmax var std var_mean "
        "std_mean cumsum linalg_vector_norm _softmax _log_softmax _safe_softmax upsample_nearest2d "
        "_upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"
    )
)
FREE = frozenset(
    _aten(
        "view _unsafe_view _reshape_alias as_strided view_as_real view_as_complex unsqueeze squeeze expand permute "
        "transpose t slice select unbind "
        "split split_with_sizes chunk cat stack repeat clone copy detach alias lift_fresh _to_copy roll flip index "
        "index_select gather im2col constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle pixel_unshuffle "
        "empty empty_like empty_strided zeros zeros_like ones ones_like full full_like new_empty new_zeros new_ones "
        "new_full fill zero promote_types result_type scalar_tensor arange linspace"
    )
)
