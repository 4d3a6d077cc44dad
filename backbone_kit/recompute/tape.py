"""`Tape`: which operation made each tensor of a forward, so that backward can have it made again.

What autograd saves is packed as a place on the tape. At the end of each unit, a block or a few layers, a policy says
which tensors are kept; the others are made again when backward asks for them, by the operations between them and what
was kept, and by nothing else. No module runs twice: hooks, random numbers, running statistics and collectives are as
without a tape.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .kept_set import Node, Problem
from .operations import argument, kind_of, macs_of
from .values import Op, Place, Value, storage_key, tensors_in

Policy = Callable[[int, Problem], frozenset[int]]
"""From the number of a unit and its values to those that are kept."""

_SMALL = 100  # What is as many times smaller than the largest value of its unit is kept.
_CHAIN = 4  # The output of each so many units is kept, or backward would have all of a net's made again at once.
_running: ContextVar[Tape | None] = ContextVar("running", default=None)


def unit_ends(outputs: Any, *, keeps: bool = False) -> None:
    """Tells the tape that is running, if any, that a unit is over.

    Args:
        outputs: A tensor or several, which other units read.
        keeps: Whether they are kept.
    """
    tape = None if torch.compiler.is_compiling() else _running.get()
    if tape is not None:
        tape.end_unit(outputs, keeps)


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations of a forward that records gradients; to be entered around it.

    Args:
        policy: Says what is kept.

    Attributes:
        given: Bytes, by storage, that autograd saves of what no operation on the tape made.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: dict[int, int] = {}
        self._policy = policy
        self._values: dict[int, Value] = {}  # by storage
        self._unit: list[Value] = []
        self._num_units = 0
        self._exits = ExitStack()

    def __enter__(self) -> Tape:
        self._exits.enter_context(torch.autograd.graph.saved_tensors_hooks(self._pack, Place.get))  # may be forbidden
        self._exits.callback(_running.reset, _running.set(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._exits.close()
        if error[0] is None:
            self.end_unit((), keeps=True)
        self._values, self._unit = {}, []

    def end_unit(self, outputs: Any, keeps: bool) -> None:
        """Keeps what the policy says of the values since the last call, and lets go of the others."""
        if not self._unit:
            return
        read_on = {value for value in map(self._value, tensors_in([outputs])) if value is not None and value.is_open}
        keeps |= (self._num_units + 1) % _CHAIN == 0
        unit = self._reached(read_on)
        places = {value: index for index, value in enumerate(unit)}
        largest = max((value.size for value in unit), default=0)
        problem = tuple(
            Node(
                size=None if value.is_overwritten else value.size,
                inputs=tuple(sorted({places[other] for other in value.inputs() if other in places})),
                is_needed=value in read_on or value.is_needed,
                is_fixed=value.is_fixed or value.size * _SMALL < largest or (keeps and value in read_on),
                macs=value.macs,
                has_weight=value.has_weight,
            )
            for value in unit
        )
        kept = self._policy(self._num_units, problem)
        for value in self._unit:
            value.is_open = False
            if places.get(value) in kept:
                value.keep(value.tensor)
            else:
                value.tensor = None
            if value not in read_on and self._values.get(value.key) is value:
                del self._values[value.key]
        self._unit = []
        self._num_units += 1

    def _reached(self, read_on: set[Value]) -> list[Value]:
        """The values of this unit that are needed, and those that they are made from, in the order of making."""
        reached: set[Value] = set()
        asked = [value for value in self._unit if value in read_on or value.is_needed]
        while asked:
            value = asked.pop()
            if value not in reached:
                reached.add(value)
                asked.extend(other for other in value.inputs() if other.is_open)
        return [value for value in self._unit if value in reached]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        targets = [(t, self._value(t)) for place in kind.targets for t in tensors_in([argument(place, args, kwargs)])]
        for _, value in targets:
            if value is not None and not value.is_open and value.tensor is not None:
                value.keep(value.tensor.clone())
        result = func(*args, **kwargs)
        if not kind.is_view:
            given = {storage_key(tensor): tensor for tensor in tensors_in([args, kwargs] if kwargs else args)}
            if any(key in self._values or tensor.requires_grad for key, tensor in given.items()):
                results = enumerate(tensors_in([result]))
                made = [(place, tensor) for place, tensor in results if storage_key(tensor) not in given]
                if targets or made:
                    self._write_down(func, args, kwargs, targets, made)
        return result

    def _write_down(self, func: Any, args: Any, kwargs: Any, targets: list[Any], made: list[Any]) -> None:
        kind, op = kind_of(func), Op(func)
        once = kind.once or len(targets) + bool(made) > 1 or any(before is None for _, before in targets)
        if not once:
            statistics = range(3, 5) if kind.has_statistics and args[5] else range(0)
            op.args, op.kwargs = self._placed(args, statistics), {k: self._placed(v) for k, v in kwargs.items()}
            op.target = argument(kind.targets[0], op.args, op.kwargs) if targets else None
        for tensor, before in targets:
            is_open = before is not None and before.is_open
            self._add(op, 0, before.tensor if is_open else tensor, once)  # a target may be a part of what is there
            if is_open:
                before.is_overwritten, before.tensor = True, None
        for place, tensor in made:
            value = self._add(op, place, tensor, once)
            if kind.is_product:
                value.macs, value.has_weight = macs_of(func, args, tensor), kind.has_weight

    def _add(self, op: Op, place: int, tensor: Tensor, once: bool) -> Value:
        value = Value(op, tensor, once)
        op.results.append((place, ref(value)))
        self._values[value.key] = value
        self._unit.append(value)
        return value

    def _pack(self, tensor: Tensor) -> Place:
        value = self._value(tensor)
        if value is None:
            self.given[storage_key(tensor)] = tensor.untyped_storage().nbytes()
        else:
            value.is_saved = True
        return Place(value, tensor)

    def _value(self, tensor: Tensor) -> Value | None:
        value = self._values.get(storage_key(tensor))
        return value if value is not None and value.dtype == tensor.dtype else None

    def _placed(self, given: Any, left_out: range = range(0)) -> Any:
        """An argument with places for tensors."""
        if isinstance(given, Tensor):
            value = self._value(given)
            if value is not None:
                value.num_readers += 1
            return Place(value, given)
        if isinstance(given, (list, tuple)):
            return [None if i in left_out else self._placed(item) for i, item in enumerate(given)]
        return given
