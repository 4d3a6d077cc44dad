"""Nets without random weights, which a test is about to overwrite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

_DRAWN = {"kaiming_uniform_", "normal_", "uniform_"}  # what the constructors of PyTorch's layers, and ours, draw with


class undrawn(TorchFunctionMode):  # a context manager: named like one
    """Within it, weights of new layers are whatever was in memory; drawing them takes most of building a net.

    Read nothing of such a net before all of it is overwritten, as by a strict `load_state_dict`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.__name__ in _DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
