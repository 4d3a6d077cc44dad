"""Files of safetensors: a header that says what is where, and the values.

Source: the format's description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .known import Damaged, Inert
from .mapped import MappedFile

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LONGEST_HEADER = 100_000_000  # the format's own limit


def read_safetensors(path: Path) -> dict[str, Tensor | Inert]:
    """The tensors of a file, which share the file's memory; `Inert` where torch has no such dtype.

    Raises:
        Damaged: It is cut short, is no such file, or says what cannot be.
    """
    mapped = MappedFile(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, mapped.size - 8):
            raise Damaged(f"it is cut short, or no safetensors: its header is said to have {length} bytes")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise Damaged("its header is damaged") from error
    if not isinstance(header, dict):
        raise Damaged("its header is damaged")
    header.pop("__metadata__", None)
    return {key: _tensor(mapped, 8 + length, key, entry) for key, entry in header.items()}


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _tensor(mapped: MappedFile, start: int, key: str, entry: Any) -> Tensor | Inert:
    try:
        kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = len(shape) <= 64 and all(type(n) is int and 0 <= n < 2**63 for n in (*shape, first, last))
    except (TypeError, KeyError, ValueError) as error:
        raise Damaged(f"its header is damaged at {key!r}") from error
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        return Inert(f"dtype {kind!r:.20}")
    if not whole or math.prod(shape) * dtype.itemsize != last - first:
        raise Damaged(f"its tensor {key!r} is said to be {shape!r:.60}, from byte {first!r:.20} to {last!r:.20}")
    if first == last:
        return torch.empty(shape, dtype=dtype)
    values = mapped.storage(start + first, last - first, dtype.itemsize)
    if sys.byteorder != "little":
        values.byteswap(dtype)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(values).reshape(shape)
