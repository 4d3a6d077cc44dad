"""What the tape has to know of an operation."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ATEN = torch.ops.aten
_WEIGHTED = (_ATEN.convolution, _ATEN.mm, _ATEN.addmm)
_PRODUCTS = (*_WEIGHTED, _ATEN.bmm, _ATEN.baddbmm)
_BATCH_NORMS = (_ATEN.native_batch_norm, _ATEN.cudnn_batch_norm, _ATEN.miopen_batch_norm)


class Kind(NamedTuple):
    """What is to be known of an operation.

    Attributes:
        targets: Places and names of the arguments that it writes to.
        is_view: Whether what it gives is memory that was there.
        once: Whether it must not run again: it is random, or not known.
        is_product, has_weight: Whether it multiplies, and with a weight.
        has_statistics: Whether it moves running statistics.
    """

    targets: list[tuple[int, str]]
    is_view: bool
    once: bool
    is_product: bool
    has_weight: bool
    has_statistics: bool


@cache
def kind_of(func: Any) -> Kind:
    """An operation's kind, off its schema and tags."""
    arguments = enumerate(func._schema.arguments)
    written = [(i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write]
    returned = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
    packet = func.overloadpacket
    return Kind(
        targets=written,
        is_view=any(not info.is_write for info in returned),
        once=func.namespace != "aten" or torch.Tag.nondeterministic_seeded in func.tags,
        is_product=packet in _PRODUCTS,
        has_weight=packet in _WEIGHTED,
        has_statistics=packet in _BATCH_NORMS,
    )


def argument(place: tuple[int, str], args: Any, kwargs: Any) -> Any:
    """The argument of that place or name."""
    return args[place[0]] if place[0] < len(args) else kwargs[place[1]]


def macs_of(func: Any, args: Any, result: Tensor) -> int:
    """Multiply-accumulates of a product."""
    if func.overloadpacket is _ATEN.convolution:
        x, weight, is_transposed = args[0], args[1], args[6]
        return int((x if is_transposed else result).numel() * math.prod(weight.shape[1:]))
    return result.numel() * int(args[-2 if func.overloadpacket in (_ATEN.mm, _ATEN.bmm) else 1].shape[-1])
