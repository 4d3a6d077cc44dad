"""Bytes as storages of tensors. Those of a file are mapped: nothing is read before it is used, nor held twice."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .known import Damaged


class MappedFile:
    """A file of weights.

    The mapping is private: what a tensor of it is set to is never written to the file. The file must stay as it is
    while such tensors live; replacing it by renaming another one is safe.
    """

    def __init__(self, path: Path) -> None:
        self.size = os.path.getsize(path)
        self._bytes = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=self.size)

    def storage(self, start: int, size: int, itemsize: int) -> torch.UntypedStorage:
        """`size` bytes from `start`; copied where values of `itemsize` bytes would not be aligned.

        Raises:
            Damaged: The file has no such bytes.
        """
        if not 0 <= start <= start + size <= self.size:
            raise Damaged(f"it is cut short: it has {self.size} bytes, and says that values end at {start + size}")
        part: torch.UntypedStorage = self._bytes[start : start + size]
        return part.clone() if start % itemsize else part  # type: ignore[no-untyped-call]


class HeldBytes:
    """Bytes that a file held within something else; storages are copies of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def storage(self, start: int, size: int, itemsize: int) -> torch.UntypedStorage:
        """`size` bytes from `start`, which a copy aligns for values of any `itemsize`.

        Raises:
            Damaged: There are no such bytes.
        """
        if not 0 <= start < start + size <= len(self._data):
            raise Damaged(f"its pickle holds {len(self._data)} bytes, and says that values end at {start + size}")
        return torch.frombuffer(bytearray(self._data[start : start + size]), dtype=torch.uint8).untyped_storage()
