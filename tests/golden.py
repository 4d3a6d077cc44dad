"""Golden figures: weights and inputs made from names and seeds, outputs that another library computed from them."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"


def cases(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.json.gz") as file:
        content: list[dict[str, Any]] = json.load(file)
    return content


def fill(module: nn.Module, theirs: Mapping[str, str] | None = None) -> None:
    """Gives every tensor of the state dict the values that belong to its key, or to the key `theirs` has for it."""
    own, theirs = module.state_dict(), theirs or {}
    values = {key: value_of(theirs.get(key, key), tuple(value.shape)).to(value.dtype) for key, value in own.items()}
    module.load_state_dict(values)


@functools.lru_cache(maxsize=512)  # most cases are a ResNet-50
def value_of(key: str, shape: tuple[int, ...]) -> Tensor:
    """The values that belong to a key."""
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    fan_in = np.prod(shape[1:])
    if key.endswith("num_batches_tracked"):
        value = np.zeros(shape)
    elif key.endswith("running_var"):
        value = 1 + 0.2 * np.abs(noise)
    elif key.endswith("weight_gamma"):
        value = 0.03 * (1 + 0.1 * noise)
    elif key.endswith("weight_beta"):
        value = 0.003 * noise
    elif "conv_offset" in key:
        value = 0.05 * noise if len(shape) < 2 else noise * 0.3 / np.sqrt(fan_in)
    elif not key.endswith("running_mean") and len(shape) >= 2:
        value = noise * 0.7 * np.sqrt(2 / fan_in)
    elif key.endswith("weight"):
        value = 1 + 0.1 * noise
    else:
        value = 0.1 * noise
    return torch.from_numpy(np.asarray(value, dtype=np.int64 if key.endswith("tracked") else np.float32))


def picture(shape: list[int]) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


def difference(output: Tensor, golden: dict[str, Any]) -> float:
    """The largest difference over the sampled positions, in standard deviations of the golden map."""
    where = np.random.RandomState(1).randint(0, output.numel(), size=48)
    return float(np.abs(output.flatten()[where].double().numpy() - np.array(golden["sample"])).max() / golden["std"])
