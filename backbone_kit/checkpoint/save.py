"""A state dict into a file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError


def save_state_dict(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Writes `.safetensors`, or else what `torch.save` writes; the file appears under its name when it is complete.

    Raises:
        CheckpointError: The format needs safetensors, which is not installed.
    """
    target = Path(path)
    own = {key: value.contiguous().clone() for key, value in tensors.items()}
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        if target.suffix == ".safetensors":
            try:
                from safetensors.torch import save_file
            except ImportError as error:
                raise CheckpointError(f"{target}: needs safetensors; run: pip install safetensors") from error
            save_file(own, temporary, metadata={"format": "pt"})
        else:
            torch.save(own, temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
