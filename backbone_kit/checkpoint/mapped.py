"""A file's bytes as storages of tensors: mapped, so that nothing is read before it is used, and never held twice."""

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
