"""What a file is, told by its first bytes."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError

_IMPOSTORS = {
    b"<": "is a page of HTML or XML, such as a server's error; fetch the file again",
    b'{"': "is JSON, such as a server's error; fetch the file again",
    b"version https://git-lfs": "is a pointer of git-lfs; run: git lfs pull",
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"bzh": "is compressed by bzip2; unpack it",
    b"\xfd7zxz": "is compressed by xz; unpack it",
    b"(\xb5/\xfd": "is compressed by zstandard; unpack it",
    b"\x89hdf": "is a file of HDF5, as Keras writes it; convert it to safetensors",
}


def first_bytes(path: Path, name: str) -> bytes:
    """The first bytes of a file that may be a checkpoint.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        CheckpointError: It is none, or something else that is known.
    """
    if not path.is_file():
        raise CheckpointError(f"{name}: {'is a directory' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{name}: {error.strerror}") from error
    for sign, what in _IMPOSTORS.items():
        if start.lstrip().lower().startswith(sign):
            raise CheckpointError(f"{name}: {what}")
    if not start.strip():
        raise CheckpointError(f"{name}: is empty")
    if start[257:262] == b"ustar":
        raise CheckpointError(
            f"{name}: is a tar archive; if torch before 0.1.10 wrote it, load it there and save again"
        )
    return start
