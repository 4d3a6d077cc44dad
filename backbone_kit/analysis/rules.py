"""How each operation changes the receptive fields of what goes through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from torch import Tensor

from .calls import Call
from .field import Axis, Field, default_dims

Known = list[tuple[Tensor, Field]]
Rule = Callable[[Call, Known, Tensor], Field | None]


def rule_of(call: Call) -> Rule:
    """From an operation, its inputs that have a field (at least one) and one of its results: that result's field."""
    return RULES.get(call.name) or (_pointwise if call.pointwise else _unknown)


def _union(known: Known) -> tuple[Axis, ...]:
    axes, *others = (field.axes for _, field in known)
    for other in others:
        axes = tuple(a.union(b) for a, b in zip(axes, other, strict=True))
    return axes


def _pointwise(call: Call, known: Known, out: Tensor) -> Field:
    dims = [False] * out.ndim
    for _, field in known:
        for i in range(1, min(out.ndim, len(field.dims)) + 1):  # broadcasting aligns the last dims
            dims[-i] |= field.dims[-i]
    return Field(_union(known), tuple(dims))


def _constant(call: Call, known: Known, out: Tensor) -> None:
    """Of a shape alone."""


def _unknown(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    dims = field.dims if x.shape == out.shape else default_dims(out.ndim)
    resized = out.ndim == x.ndim and out.shape[2:] != x.shape[2:] and max(out.shape[2:], default=1) > 1
    return Field(_union(known), dims).mixed(step=math.nan if resized else None)


def _reshaped(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    if x.numel() != out.numel():
        return _pointwise(call, known, out)
    # dims of equal extent before them and between them belong together: (N, C, H, W) -> (N, C, H*W)
    before, after = ([*accumulate(shape, int.__mul__, initial=1)] for shape in (x.shape, out.shape))
    common = sorted(set(before) & set(after))
    group = {edge: sum(c <= edge for c in common) for edge in {*before, *after}}
    spatial = {group[before[dim]] for dim in range(x.ndim) if field.dims[dim] and x.shape[dim] > 1}
    return Field(field.axes, tuple(n > 1 and group[after[dim]] in spatial for dim, n in enumerate(out.shape)))


def _permuted(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    order = list(range(x.ndim))
    if call.name == "aten::permute":
        order = [dim % x.ndim for dim in call["dims"]]
    elif x.ndim > 1:
        a, b = (call["dim0"], call["dim1"]) if call.name == "aten::transpose" else (0, 1)
        order[a], order[b] = order[b], order[a]
    places, axes = field.places(), field.axes
    if len(places) == len(axes):
        axes = tuple(axes[places.index(dim)] for dim in order if dim in places)
    return Field(axes, tuple(field.dims[dim] for dim in order))


def _selected(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    dim = call["dim"] % x.ndim
    return field.mixed([dim])._replace(dims=field.dims[:dim] + field.dims[dim + 1 :])


def _along(call: Call, known: Known, out: Tensor) -> Field:
    return _pointwise(call, known, out).mixed([call["dim"]])


def _stacked(call: Call, known: Known, out: Tensor) -> Field:
    dim = call["dim"] % out.ndim
    dims = known[0][1].dims
    return Field(_union(known), (*dims[:dim], False, *dims[dim:]))


def _reduced(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    over = call.get("dim")
    over = range(x.ndim) if over is None or over == [] else [over] if isinstance(over, int) else over
    field = field.mixed(over)
    if out.ndim < x.ndim:
        gone = {dim % x.ndim for dim in over}
        field = field._replace(dims=tuple(flag for dim, flag in enumerate(field.dims) if dim not in gone))
    return field


def _matmul(call: Call, known: Known, out: Tensor) -> Field:
    mixed, dims = [], [False] * out.ndim
    for x, field in known:
        left, right = x is call.inputs[-2], x is call.inputs[-1]
        contracted = -1 if left or x.ndim == 1 else -2
        mixed.append((x, field.mixed([contracted]) if left or right else field))
        for dim in range(out.ndim):  # rows come from the left, columns from the right, the batch from both
            place = dim - out.ndim
            takes = (place == -2 and left) or (place == -1 and right) or place < -2 or not (left or right)
            dims[dim] |= takes and len(field.dims) >= -place and field.dims[place]
    result = Field(_union(mixed), tuple(dims))
    return result.mixed() if out.ndim > 1 and dims[-1] and dims[-2] else result  # every position with every other


def _windowed(call: Call, known: Known, out: Tensor) -> Field:
    (x, _), *_ = known
    if x is not call.inputs[0]:  # made weights, as in a dynamic convolution
        return _unknown(call, known, out)
    kernel = call["weight"].shape[2:] if call.name == "aten::convolution" else call["kernel_size"]
    return _slid(
        *(call, known, out, kernel),
        *(call["stride"] or kernel, call["padding"], call.get("dilation", (1,))),
        transposed=call.get("transposed", False),
    )


def _adaptive(call: Call, known: Known, out: Tensor) -> Field:
    (x, _), *_ = known
    sizes = [*zip(x.shape[2:], out.shape[2:], strict=True)]
    if any(new == 1 < old for old, new in sizes):
        return _unknown(call, known, out)
    kernel = [-(-old // new) + (old % new > 0) for old, new in sizes]  # windows of unequal size: the largest
    return _slid(call, known, out, kernel, [old / new for old, new in sizes], (0,), (1,))


def _slid(
    call: Call,
    known: Known,
    out: Tensor,
    kernel: Sequence[int],
    stride: Sequence[float],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    transposed: bool = False,
) -> Field:
    (x, field), *_ = known
    rank = len(field.axes)
    if x.ndim != rank + 2 or field.dims[1] or len(kernel) not in (1, rank):
        return _unknown(call, known, out)
    slide = Axis.transposed if transposed else Axis.window
    numbers = (list(n) * rank if len(n) == 1 else n for n in (kernel, stride, padding, dilation))
    return Field(tuple(slide(*item) for item in zip(field.axes, *numbers, strict=True)), default_dims(out.ndim))


def _padded(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    places, before = field.places(), (call.get("pad") or call["padding"])[::2]  # the last dim comes first
    if len(places) != len(field.axes):
        return _unknown(call, known, out)
    added = [before[x.ndim - 1 - dim] if x.ndim - 1 - dim < len(before) else 0 for dim in places]
    return field._replace(axes=tuple(axis.window(1, padding=n) for axis, n in zip(field.axes, added, strict=True)))


def _sliced(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    dim, places, axes = call["dim"] % x.ndim, field.places(), list(field.axes)
    if not field.dims[dim]:
        return field
    if len(places) != len(axes):
        return field.mixed(step=math.nan if call["step"] > 1 else None)
    start = call["start"] or 0
    start = min(start + x.shape[dim] if start < 0 else start, x.shape[dim])
    at = places.index(dim)
    axes[at] = axes[at].window(1, stride=call["step"], padding=-start)
    return field._replace(axes=tuple(axes))


def _upsampled(call: Call, known: Known, out: Tensor) -> Field:
    (x, field), *_ = known
    near = 2 if "bicubic" in call.name else 1  # an upper bound; the true window depends on i modulo the scale
    axes = tuple(
        Axis(axis.low - near * axis.step, axis.high + near * axis.step, axis.step * old / new) if old != new else axis
        for axis, old, new in zip(field.axes, x.shape[2:], out.shape[2:], strict=True)
    )
    return field._replace(axes=axes)


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return {f"aten::{name}": rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_named(_windowed, "convolution max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices"),
    **_named(_windowed, "max_pool2d avg_pool1d avg_pool2d avg_pool3d im2col"),
    **_named(_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d"),
    **_named(_padded, "constant_pad_nd reflection_pad2d replication_pad2d reflection_pad1d replication_pad1d"),
    **_named(_sliced, "slice"),
    **_named(_upsampled, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"),
    **_named(_pointwise, "native_batch_norm native_group_norm native_layer_norm clone copy native_dropout"),
    **_named(_pointwise, "expand detach alias _to_copy lift_fresh"),
    **_named(_reshaped, "view _unsafe_view _reshape_alias unsqueeze squeeze"),
    **_named(_permuted, "permute transpose t"),
    **_named(_selected, "select unbind"),
    **_named(_along, "cat split split_with_sizes chunk"),
    **_named(_stacked, "stack"),
    **_named(_reduced, "mean sum amax amin max min var std var_mean std_mean linalg_vector_norm argmax cumsum"),
    **_named(_reduced, "_softmax _log_softmax _safe_softmax"),
    **_named(_constant, "empty_like zeros_like ones_like full_like new_empty new_zeros new_ones new_full fill zero"),
    **_named(_matmul, "mm addmm bmm baddbmm mv"),
}
