"""One operation as the tracer sees it: its name, its tensors, its arguments by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload


class Call:
    """A call of one PyTorch operation and what came out of it.

    Args:
        op: The operation.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        result: What it returned.
    """

    def __init__(self, op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        self.op = op
        self.name = op._schema.name.removesuffix("_")  # an operation and its in-place form are one here
        self.inputs = [*tensors(args), *tensors(list(kwargs.values()))]
        self.outputs = tensors(result)
        self._args, self._kwargs = args, kwargs

    @property
    def pointwise(self) -> bool:
        """Whether every value of the result depends on the values at its own place alone."""
        return torch.Tag.pointwise in self.op.tags or self.name in _POINTWISE

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        schema = self.op._schema.arguments
        defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        return {**defaults, **dict(zip((a.name for a in schema), self._args, strict=False)), **self._kwargs}

    def __getitem__(self, name: str) -> Any:
        """The argument of that name in the operation's schema, given or by default."""
        return self._arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As `call[name]`, for what not every operation has."""
        return self._arguments.get(name, default)


def tensors(value: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in tensors(item)]
    return []


_POINTWISE = {  # those that PyTorch does not tag
    f"aten::{name}"
    for name in ("hardswish", "hardsigmoid", "rrelu_with_noise", "log_sigmoid_forward", "_prelu_kernel", "floor_divide")
}
