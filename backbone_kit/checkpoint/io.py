"""A source of weights as a state dict. Nothing in a file is ever executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .contents import Checkpoint, find_checkpoint
from .known import Damaged
from .safetensors_file import read_safetensors
from .torch_file import read_pickle, read_zip

_IMPOSTORS = {
    b"<": "is a page of HTML or XML, such as a server's error; fetch the file again",
    b'{"': "is JSON, such as a server's error; fetch the file again",
    b"version https://git-lfs": "is a pointer of git-lfs; run: git lfs pull",
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"BZh": "is compressed by bzip2; unpack it",
    b"\xfd7zXZ": "is compressed by xz; unpack it",
    b"(\xb5/\xfd": "is compressed by zstandard; unpack it",
    b"\x89HDF": "is a file of HDF5, as Keras writes it; convert it to safetensors",
}


def read_checkpoint(source: str | os.PathLike[str] | Mapping[str, Any], *, ema: bool = False) -> Checkpoint:
    """The weights of a source.

    Args:
        source: A path, or a state dict. A file is told by its first bytes: `torch.save` in both of its formats,
            safetensors, or a pickle of detectron2 or Caffe2.
        ema: Whether to take the weights that are averaged over training.

    Raises:
        CheckpointError: There is no such file, it is no checkpoint or a damaged one, or it holds no state dict.
    """
    if isinstance(source, Mapping):
        return find_checkpoint(source, "the state dict", ema=ema)
    if "://" in str(source):
        raise CheckpointError(f"{source}: names a download; fetch the file and give its path instead")
    path = Path(source).expanduser()
    content, inert = _read(path, _start(path, str(source)))
    return find_checkpoint(content, str(path), ema=ema, inert=inert)


def _start(path: Path, source: str) -> bytes:
    """The first bytes of a file that may be a checkpoint."""
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a directory' if path.is_dir() and source else 'no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    for sign, what in _IMPOSTORS.items():
        if start.lstrip().lower().startswith(sign.lower()):
            raise CheckpointError(f"{path}: {what}")
    if not start.strip():
        raise CheckpointError(f"{path}: is empty")
    if start[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: is a tar archive; if torch before 0.1.10 wrote it, load it there and save again"
        )
    return start


def _read(path: Path, start: bytes) -> tuple[Any, tuple[str, ...]]:
    try:
        if start.startswith(b"PK\3\4"):
            return read_zip(path)
        if start[8:9] == b"{" or path.suffix == ".safetensors":
            return read_safetensors(path), ()
        return read_pickle(path)
    except Damaged as error:
        raise CheckpointError(f"{path}: is no checkpoint that can be read: {error}") from error
    except (Exception, MemoryError) as error:
        raise CheckpointError(f"{path}: is no checkpoint that can be read: {error}") from error
