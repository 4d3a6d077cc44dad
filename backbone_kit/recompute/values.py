"""What storages hold from one write to the next, the operations that made it, and making it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Value:
    """What a storage holds from one write to the next.

    Args:
        op: What made it.
        tensor: All of it.
        is_fixed: Whether it cannot be made again.
    """

    def __init__(self, op: Op, tensor: Tensor, is_fixed: bool) -> None:
        storage = tensor.untyped_storage()
        self.op: Op | None = op
        self.tensor: Tensor | None = _alias(tensor)
        self.version = 0
        self.dtype = tensor.dtype
        self.key, self.size = storage._cdata, storage.nbytes()
        self.address = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # until it goes, the key is no other's
        self.is_fixed = is_fixed or self.size != tensor.nbytes  # there is more in the storage than this
        self.macs, self.has_weight = 0, False
        self.num_readers = 0
        self.is_open, self.is_saved, self.is_overwritten = True, False, False

    @property
    def is_needed(self) -> bool:
        """Whether backward asks for it."""
        return self.is_saved and not self.is_overwritten

    def inputs(self) -> Iterator[Value]:
        """What it is made from; nothing, where it is there."""
        if self.op is not None:
            yield from (place.value for place in self.op.places() if place.value is not None)

    def keep(self, tensor: Any) -> None:
        """Holds a tensor, and no longer what made it."""
        self.op, self.tensor, self.version = None, tensor, tensor._version


class Place:
    """A tensor as a view of a value; of what no operation on the tape made, the tensor itself."""

    def __init__(self, value: Value | None, tensor: Tensor) -> None:
        self.value = value
        if value is None:
            self.tensor, self.version = tensor, tensor._version
        else:
            self.view = tensor.size(), tensor.stride(), tensor.storage_offset()

    def get(self) -> Tensor:
        """The tensor, made again where it was not kept."""
        if self.value is None:
            return _unchanged(self.tensor, self.version)
        if self.value.tensor is None:
            make(self.value)
        assert self.value.tensor is not None
        return _unchanged(self.value.tensor, self.value.version).as_strided(*self.view)


class Op:
    """An operation.

    Args:
        func: It.

    Attributes:
        args, kwargs: What it is called with; lists, dicts, and places for tensors.
        target: The one of them that it writes to; None: it makes new tensors.
        results: The values that it makes, and where in its result each is.
    """

    def __init__(self, func: Any) -> None:
        self.func = func
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.target: Place | None = None
        self.results: list[tuple[int, ref[Value]]] = []

    def places(self) -> Iterator[Place]:
        """The arguments that are tensors."""
        todo: list[Any] = [self.args, self.kwargs]
        while todo:
            argument = todo.pop()
            if isinstance(argument, Place):
                yield argument
            elif isinstance(argument, (list, dict)):
                todo.extend(argument.values() if isinstance(argument, dict) else argument)

    def run(self) -> None:
        """Makes its values again."""
        own: Tensor | None = None
        if self.target is not None:
            before = self.target.value
            assert before is not None
            assert before.tensor is not None
            own = before.tensor.clone() if before.op is None else before.tensor

        args = [self._tensor(argument, own) for argument in self.args]
        kwargs = {name: self._tensor(argument, own) for name, argument in self.kwargs.items()}
        result = self.func(*args, **kwargs)
        made = list(tensors_in([result])) if own is None else [own]
        for place, reference in self.results:
            value = reference()
            if value is not None and value.tensor is None:
                value.tensor, value.version = made[place], made[place]._version
                if value.is_saved or value.num_readers > 1:
                    value.op = None

    def _tensor(self, argument: Any, own: Tensor | None) -> Any:
        """An argument with tensors in their places; the target's is a view of `own`."""
        if isinstance(argument, Place):
            return argument.get() if own is None or argument is not self.target else own.as_strided(*argument.view)
        if isinstance(argument, list):
            return [self._tensor(item, own) for item in argument]
        return argument


def make(wanted: Value) -> None:
    """Makes a value again, and before it what it is made from; of that, what is read once is not held."""
    todo = [wanted]
    with torch.no_grad(), torch._C._DisableAutocast():
        while todo:
            op, inputs = todo[-1].op, list(todo[-1].inputs())
            missing = [value for value in inputs if value.tensor is None]
            if missing:
                todo += missing
                continue
            if todo.pop().tensor is None and op is not None:
                op.run()
                for value in inputs:
                    if value.op is not None:
                        value.tensor = None


def storage_key(tensor: Tensor) -> int:
    """What tells its storage from others, while that lives."""
    key: Any = tensor.untyped_storage()._cdata
    return key  # type: ignore[no-any-return]


def _alias(tensor: Tensor) -> Tensor:
    """The same memory and version, without the history that would lead back to whoever holds it."""
    with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
        return tensor.detach()


def _unchanged(tensor: Tensor, version: int) -> Tensor:
    if tensor._version != version:
        raise RuntimeError(
            f"a tensor of shape {tuple(tensor.shape)} that recomputing needs has been modified by an inplace operation "
            "after the forward; change a clone of it, or change it behind backward()"
        )
    return tensor


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors in a list or dict, nested ones too."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            yield from tensors_in(value)
