"""A checkpoint file as a state dict. Nothing in a file is ever executed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

_IMPOSTORS = {
    b"<": "is a page of HTML or XML, such as a server's error; fetch the file again",
    b"version https://git-lfs": "is a pointer of git-lfs; run: git lfs pull",
}
CONTAINERS = ("state_dict", "model", "model_state")


def read_state_dict(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by key, on the CPU.

    Raises:
        CheckpointError: There is no such file, it is no checkpoint, or it holds no state dict.
    """
    if "://" in str(source):
        raise CheckpointError(f"{source}: names a download; fetch the file and give its path instead")
    path = Path(source).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a directory' if path.is_dir() and str(source) else 'no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    for sign, what in _IMPOSTORS.items():
        if start.lower().startswith(sign):
            raise CheckpointError(f"{path}: {what}")
    if not start:
        raise CheckpointError(f"{path}: is empty")
    try:
        if path.suffix == ".safetensors":
            content = _read_safetensors(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the pickle's protocol
                content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: is no checkpoint, or asks for more than tensors and numbers") from error
    return find_state_dict(content, str(path))


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"{path}: needs safetensors; run: pip install safetensors") from error
    return load_file(path)


def find_state_dict(content: Any, name: str) -> dict[str, Tensor]:
    """The mapping from keys to tensors in what a training run saved.

    Args:
        content: A state dict, or a mapping that holds one under 'state_dict', 'model' or 'model_state'.
        name: What messages call it.

    Raises:
        CheckpointError: There is none.
    """
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name}: holds a {type(content).__name__}, not a state dict")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        shown = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise CheckpointError(f"{name}: holds no tensors, only: {shown}; looked for {', '.join(CONTAINERS)}")
    return tensors
