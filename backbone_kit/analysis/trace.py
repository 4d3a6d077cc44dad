"""One forward on the meta device, watched operation by operation: no memory and no arithmetic, whatever the size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .calls import Call, tensors
from .field import Field
from .macs import count_macs, is_free, is_light
from .parts import Part
from .quick import QUICK, empty_like
from .tracking import Fields, storage_of


@dataclass
class Tally:
    """What one part did.

    Attributes:
        macs: Multiply-accumulates.
        activation_bytes: Size of all tensors it made; writes in place and views make none.
        shape: Of its output (of the first, where it has several), None where it did not run.
        receptive_field: Of that output along each axis in input pixels, `inf` where unbounded.
        stride: Input pixels from one of its positions to the next, None where there is no next or no telling.
        light_ops: Operations without multiply-accumulates worth counting, by name.
        uncounted_ops: Operations for which no formula is known, by name.
    """

    macs: int = 0
    activation_bytes: int = 0
    shape: tuple[int, ...] | None = None
    receptive_field: tuple[float, ...] | None = None
    stride: float | None = None
    light_ops: Counter[str] = field(default_factory=Counter)
    uncounted_ops: Counter[str] = field(default_factory=Counter)


def trace(model: nn.Module, parts: Sequence[Part], x: Tensor) -> dict[str, Tally]:
    """What each part does in a forward of `x`, by the part's name.

    Args:
        model: Any module; its own device does not matter, and it is left as it was.
        parts: Of the model.
        x: An input on the meta device.
    """
    watcher = _Watcher(parts, x)
    with evaluating(model), watching(model, parts, watcher.enter, watcher.leave), watcher:
        model(x)
    return watcher.tallies


@contextmanager
def watching(
    model: nn.Module,
    parts: Sequence[Part],
    enter: Callable[[str], None],
    leave: Callable[[str, Any], None],
) -> Iterator[None]:
    """Calls `enter(part)` and `leave(part, output)` around the modules of each part."""
    handles = []
    for part in parts:
        for name in part.modules:
            module = model.get_submodule(name)
            handles += [
                module.register_forward_pre_hook(lambda module, args, part=part.name: enter(part)),
                module.register_forward_hook(lambda module, args, output, part=part.name: leave(part, output)),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients, every module's own mode restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, parts: Sequence[Part], x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallies = {part.name: Tally() for part in parts}
        self._current = next(iter(self.tallies.values()))  # what runs between two parts belongs to the earlier one
        self._fields = Fields()
        self._fields.start(x)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing compiles this; to shield it from torch._dynamo would import that, for a second

    def enter(self, part: str) -> None:
        self._current = self.tallies[part]

    def leave(self, part: str, output: Any) -> None:
        if outputs := tensors(output):
            self._current.shape = tuple(outputs[0].shape)
            known = self._fields.of(outputs[0])
            self._current.receptive_field = known and known.size
            self._current.stride = _stride(known, outputs[0]) if known else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = _on_meta(args), _on_meta(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = torch.device("meta")
        result = QUICK.get(func.name(), func)(*args, **kwargs)
        call = Call(func, args, kwargs, result)
        self._fields.follow(call)
        self._record(call)
        return result

    def _record(self, call: Call) -> None:
        given = {storage_of(x) for x in call.inputs}
        new = {storage_of(x): x.untyped_storage().nbytes() for x in call.outputs if storage_of(x) not in given}
        self._current.activation_bytes += sum(new.values())
        macs = count_macs(call)
        if macs is not None:
            self._current.macs += macs
        elif not is_free(call):
            ops = self._current.light_ops if is_light(call) else self._current.uncounted_ops
            ops[call.name.removeprefix("aten::")] += 1


def _stride(field: Field, x: Tensor) -> float | None:
    alone = all(n == 1 for n, runs in zip(x.shape, field.dims) if runs)
    step = field.axes[0].step
    return None if math.isnan(step) or (alone and math.inf in field.size) else step  # one value of the whole: no next


def _on_meta(value: Any) -> Any:
    """Arguments with every tensor's meta twin in its place, so that a model on any device is traced for free."""
    if isinstance(value, Tensor):
        return value if value.is_meta else empty_like(value)
    if isinstance(value, dict):
        return {key: _on_meta(item) for key, item in value.items()}
    return type(value)(map(_on_meta, value)) if type(value) in (list, tuple) else value
