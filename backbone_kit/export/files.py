"""Files that appear whole."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError


def check_place(path: Path) -> None:
    """Makes sure that a file can appear there.

    Raises:
        ConfigError: It is a folder.
        OSError: The folder is not there, or nothing can be written to it.
    """
    if path.is_dir():
        raise ConfigError(f"must name a file, got the folder {str(path)!r}", ("path",))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    try:
        _folder_beside(path).cleanup()
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place to write a file, and others beside it; they move to where `path` is when the block ends without an error.

    What was there before is replaced then, and untouched by a block that fails.
    """
    with _folder_beside(path) as folder:
        written = Path(folder, path.name)
        yield written
        for file in sorted(
            Path(folder).iterdir(), key=lambda file: file == written
        ):  # the one that names the others: last
            os.replace(file, path.parent / file.name)


def _folder_beside(path: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.")
