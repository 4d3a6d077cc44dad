"""A state dict into a model: all or nothing, and a report of what went where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .io import find_state_dict, read_state_dict


@dataclass(frozen=True)
class LoadReport:
    """What a load did.

    Attributes:
        source: Where the weights came from.
        prefix: What stood before the model's keys there.
        matched: Keys of the model that were served.
        missing: Keys of the model that were not, and keep what they had.
        unexpected: Keys under the prefix that the model has not.
        left_aside: Keys of other parts, outside the prefix.
    """

    source: str
    prefix: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    left_aside: tuple[str, ...]

    def __str__(self) -> str:
        served = f"{len(self.matched)} of {len(self.matched) + len(self.missing)} served"
        aside = f"left aside: {len(self.left_aside) + len(self.unexpected)}"
        return f"{self.source}: {served} · {aside}"


def load_checkpoint(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    strict: bool = True,
    prefix: str | None = None,
) -> LoadReport:
    """Loads weights whose keys are the model's own, perhaps under a prefix.

    A checkpoint may lack batch counters, and what a layer of the model can do without: its class lists those keys in
    `optional_keys`, as the convolution with adaptive weight standardisation does, which finds them in a plain weight.

    Args:
        model: What receives the weights; untouched when the load fails.
        source: A path (`.pth`, `.pt`, `.safetensors`) or a state dict.
        strict: Whether every key of the model must be served.
        prefix: What stands before the model's keys in `source`, with or without the dot; None: the one that serves most
            of them.

    Raises:
        CheckpointError: The source cannot be read; a tensor has another shape, or is none of the model's kind; strict
            and a key is missing; fewer than half of the model's keys are served; two prefixes serve equally many; or
            the model has no memory yet, being on the meta device.
    """
    _check_call(model, source, strict, prefix)
    if isinstance(source, Mapping):
        name = "the state dict"
        weights = find_state_dict(source, name)
    else:
        name = str(source)
        weights = read_state_dict(source)
    own = model.state_dict()
    if any(value.is_meta for value in own.values()):
        raise CheckpointError(f"{name}: the model is on the meta device; call model.to_empty(device='cpu') first")
    if prefix is None:
        prefix = _find_prefix(weights, own, name)
    elif prefix and not prefix.endswith("."):
        prefix += "."
    found = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    found = {_renamed(key, own): value for key, value in found.items()}
    matched = {key: found[key] for key in own if key in found}
    missing = [key for key in own if key not in found]
    wrong = [reason for key, value in matched.items() for reason in _misfits(key, value, own[key])]
    needed = [key for key in missing if key not in _optional(model)]
    if wrong:
        raise CheckpointError(f"{name}: {_few(wrong)}. Is this the checkpoint of that depth and width?")
    if 2 * len(matched) < len(own) or (strict and needed):
        raise CheckpointError(
            f"{name}: serves {len(matched)} of the model's {len(own)} keys under the prefix {prefix!r}; "
            f"missing: {_few(needed)}; it has: {_few(list(weights))}; for another prefix, pass prefix='...'"
        )
    model.load_state_dict(matched, strict=False)
    unexpected = tuple(key for key in found if key not in own)
    left_aside = tuple(key for key in weights if not key.startswith(prefix))
    return LoadReport(name, prefix, tuple(matched), tuple(missing), unexpected, left_aside)


def _check_call(model: Any, source: Any, strict: Any, prefix: Any) -> None:
    expected = (
        ("model", model, nn.Module, "a torch.nn.Module"),
        ("source", source, (str, os.PathLike, Mapping), "a path or a state dict"),
        ("strict", strict, bool, "True or False"),
        ("prefix", prefix, (str, type(None)), "a string or None"),
    )
    for name, value, kind, words in expected:
        if not isinstance(value, kind):
            raise CheckpointError(f"{name} must be {words}, got a {type(value).__name__}")


def _find_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str) -> str:
    """What stands before the model's keys: of all that stands before some of them, what serves most."""
    some = list(own)[:8]
    starts = {key[: -len(k)] for k in some for key in weights if key == k or key.endswith(f".{k}")}
    served = {start: sum(start + key in weights for key in own) for start in starts}
    best = [start for start in served if served[start] == max(served.values())]
    if len(best) > 1:
        raise CheckpointError(f"{name}: has the model's keys under {_few(sorted(map(repr, best)))}; pass prefix='...'")
    return best[0] if best else ""


def _misfits(key: str, value: Tensor, own: Tensor) -> list[str]:
    """Why a tensor cannot be copied into the model's, [] where it can."""
    if value.shape != own.shape:
        return [f"{key} is {tuple(value.shape)} there, {tuple(own.shape)} here"]
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return [f"{key} is no plain tensor there, but {_kind(value)}"]
    if value.is_floating_point() != own.is_floating_point() or value.is_complex():
        return [f"{key} is {_kind(value)} there, {_kind(own)} here"]
    if value.is_floating_point() and not torch.isfinite(value).all():
        return [f"{key} has values that are infinite or no number"]
    return []


def _kind(value: Tensor) -> str:
    words = ["meta"] * value.is_meta + ["quantized"] * value.is_quantized
    words += [str(value.layout).removeprefix("torch.")] * (value.layout != torch.strided)
    return " ".join([*words, str(value.dtype).removeprefix("torch.")])


def _optional(model: nn.Module) -> set[str]:
    """The model's keys that a checkpoint may lack."""
    return {
        f"{path}.{key}" if path else key
        for path, module in model.named_modules()
        for key in (*getattr(module, "optional_keys", ()), "num_batches_tracked")
    }


def _renamed(key: str, own: Mapping[str, Tensor]) -> str:
    """Offsets of a deformable convolution, which mmcv before 1.0 had beside it (`conv2_offset`), in their place."""
    layer, _, rest = key.rpartition("_offset.")
    new = f"{layer}.conv_offset.{rest}"
    return new if key not in own and new in own else key


def _few(items: list[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
