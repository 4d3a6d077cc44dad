"""What a checkpoint holds, and where in it the state dict is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import CheckpointError
from .entry import WeightEntry
from .known import Inert, NumpyArray, array_to_tensor
from .words import few

CONTAINERS = ("state_dict", "model", "model_state", "model_state_dict", "blobs", "net", "params")
"""Where training code keeps the state dict; Caffe2 its blobs."""

AVERAGED = ("state_dict_ema", "model_ema", "model_state_ema", "ema_state_dict", "ema_state", "ema_model", "ema")
"""Where it keeps the average of the weights over training."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what was beside them.

    Attributes:
        name: What messages call the source.
        tensors: The state dict, on the CPU, in the order of the file. They may share the memory of a mapped file.
        container: The entry that the state dict was, such as 'state_dict' or 'model.state_dict'; '' for all of it.
        left_aside: Entries beside it, and in it, that are no weights, such as 'optimizer'.
        hanging: Keys of the state dict whose values hang on something that is not read, and its name.
        entry: What is known of the weights, where the source was a name for them.
        inert: Names of the objects that a file holds beside tensors, arrays and containers; none of them was called.
    """

    name: str
    tensors: Mapping[str, Tensor]
    container: str = ""
    left_aside: tuple[str, ...] = ()
    hanging: Mapping[str, str] = field(default_factory=dict)
    inert: tuple[str, ...] = ()
    entry: WeightEntry | None = None


def find_checkpoint(content: Any, name: str, *, ema: bool = False, inert: tuple[str, ...] = ()) -> Checkpoint:
    """The state dict in what a training run saved.

    Args:
        content: A state dict, or a mapping that holds one under one of `CONTAINERS`, perhaps within another.
        name: What messages call it.
        ema: Whether to take the averaged weights. MMEngine's files have these in `state_dict`, and those that were
            trained in `ema_state_dict`; elsewhere they are under one of `AVERAGED`.
        inert: Names of what the file holds that is not known.

    Raises:
        CheckpointError: There is none.
    """
    containers = CONTAINERS
    path: list[str] = []
    left_aside: list[str] = []
    if ema and isinstance(content, Mapping) and not (_is_mmengine(content) and "ema_state_dict" in content):
        containers = AVERAGED
    for _ in range(3):
        found = next((c for c in containers if isinstance(content, Mapping) and _holds(content.get(c))), None)
        if found is None:
            break
        left_aside += [".".join([*path, str(key)]) for key in content if key != found]
        path.append(found)
        content, containers = content[found], CONTAINERS
    if isinstance(content, Inert):
        where = f"its {'.'.join(path)!r} is" if path else "is"
        raise CheckpointError(f"{name}: {where} a {content.name}, not a state dict; save model.state_dict() instead")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name}: holds a {type(content).__name__}, not a state dict")
    if containers is AVERAGED:
        raise CheckpointError(f"{name}: holds no averaged weights; looked for {', '.join(AVERAGED)}")
    tensors: dict[str, Tensor] = {}
    hanging: dict[str, str] = {}
    for key, value in content.items():
        text = key.decode("latin1") if isinstance(key, bytes) else key
        value = value.tensor() if isinstance(value, NumpyArray) else value
        value = array_to_tensor(value) if isinstance(value, np.ndarray) else value
        momentum = path[-1:] == ["blobs"] and str(text).endswith("_momentum")
        if isinstance(text, str) and isinstance(value, Tensor) and not momentum:
            tensors[text] = value
        elif isinstance(text, str) and isinstance(value, Inert):
            hanging[text] = value.name
        else:
            left_aside.append(".".join([*path, str(text)]))
    if not tensors:
        shown = few([*left_aside, *(f"{key}, which hangs on {what}" for key, what in hanging.items())], 8)
        raise CheckpointError(
            f"{name}: holds no tensors, only: {shown or 'nothing'}; looked for {', '.join(CONTAINERS)}"
        )
    return Checkpoint(name, tensors, ".".join(path), tuple(left_aside), hanging, inert)


def _holds(value: Any) -> bool:
    """Whether this can be where the weights are: an object there is one that cannot be read, and has to be named."""
    return isinstance(value, (Mapping, Inert))


def _is_mmengine(content: Mapping[Any, Any]) -> bool:
    meta = content.get("meta")
    return "message_hub" in content or (isinstance(meta, Mapping) and "mmengine_version" in meta)
