"""The receptive fields of the tensors of one forward."""

from __future__ import annotations

from torch import Tensor

from .calls import Call
from .field import Axis, Field, default_dims
from .rules import rule_of

Geometry = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape, strides


class Fields:
    """The receptive fields of the tensors of one forward, for every view of every storage."""

    def __init__(self) -> None:
        self._views: dict[int, dict[Geometry, Field | None]] = {}

    def start(self, x: Tensor) -> None:
        """Makes `x`, of shape (N, C, *positions), the input in whose pixels fields are measured."""
        self._views[storage_of(x)] = {_geometry(x): Field((Axis(),) * (x.ndim - 2), default_dims(x.ndim))}

    def of(self, x: Tensor) -> Field | None:
        """The field of `x`; None where `x` does not depend on the input."""
        return self._views.get(storage_of(x), {}).get(_geometry(x))

    def follow(self, call: Call) -> None:
        """Gives the results of one operation their fields."""
        known = [(x, field) for x in call.inputs if (field := self.of(x)) is not None]
        given = {storage_of(x) for x in call.inputs}
        for out in call.outputs:
            field = rule_of(call)(call, known, out) if known else None
            if storage_of(out) not in given:
                self._views[storage_of(out)] = {}
            views = self._views.setdefault(storage_of(out), {})
            if field and call.op._schema.is_mutable:  # what is written through one view is seen through all
                views.update({g: _widened(old, field, len(g[1])) for g, old in views.items()})
            views[_geometry(out)] = field


def storage_of(x: Tensor) -> int:
    """What tells the memory of a tensor from that of others."""
    return int(x.untyped_storage()._cdata)


def _geometry(x: Tensor) -> Geometry:
    return int(x.storage_offset()), tuple(x.shape), tuple(x.stride())


def _widened(old: Field | None, new: Field, ndim: int) -> Field:
    if old is None:
        return Field(new.axes, default_dims(ndim))
    return Field(tuple(a.union(b) for a, b in zip(old.axes, new.axes, strict=True)), old.dims)
