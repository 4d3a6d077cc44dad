"""A lock among processes, and threads, that the system takes back from those that die."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until nobody else holds the lock, and holds it.

    Args:
        path: A file that stands for the lock, made where there is none, and left there.

    Raises:
        OSError: The file cannot be made, or its file system knows no locks.
    """
    with path.open("ab") as file:
        while True:
            try:
                _lock(file.fileno())
                break
            except (BlockingIOError, PermissionError):  # Windows says the latter
                time.sleep(0.05)
        yield
