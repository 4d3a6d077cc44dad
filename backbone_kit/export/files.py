"""Files that appear whole."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place to write a file, and others beside it; they move to where `path` is when the block ends without an error.

    What was there before is replaced then, and untouched by a block that fails.

    Raises:
        FileNotFoundError: The folder is not there.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder, path.name)
        yield written
        for file in sorted(
            Path(folder).iterdir(), key=lambda file: file == written
        ):  # the one that names the others: last
            os.replace(file, path.parent / file.name)
