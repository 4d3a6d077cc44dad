"""Files from the web, fetched once: resumed, retried, checked, and there for all processes or for none.

`BACKBONE_KIT_HOME` says where they are kept (default: `backbone_kit` in the user's cache folder); with
`BACKBONE_KIT_OFFLINE=1` only those that are there already are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from ..errors import CheckpointError
from .lock import locked
from .sniff import first_bytes
from .transfer import PIECE, Interrupted, Part, Tick, shown, transfer


def home() -> Path:
    """Where files are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("BACKBONE_KIT_HOME") or Path(cache, "backbone_kit")).expanduser()


def offline() -> bool:
    """Whether nothing may be fetched."""
    return os.environ.get("BACKBONE_KIT_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


def kept_at(url: str) -> Path:
    """Where the file of a URL is kept, under its own name."""
    name = re.sub(r"[^\w.+-]", "_", urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]))
    return home() / "weights" / hashlib.sha256(url.encode()).hexdigest()[:12] / (name.lstrip(".") or "weights")


def named_hash(url: str) -> str | None:
    """The start of the SHA-256 that a file name ends with, as PyTorch's and OpenMMLab's do; a date is none.

    Examples:
        >>> named_hash('https://download.pytorch.org/models/resnet50-0676ba61.pth')
        '0676ba61'
        >>> named_hash('https://example.org/resnet50-20210831.pth') is None
        True
    """
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", urllib.parse.urlsplit(url).path)
    return found[1] if found and not re.fullmatch(r"20[0-3]\d[01]\d[0-3]\d", found[1]) else None


def fetch(
    url: str, sha256: str | None = None, *, timeout: float = 30.0, attempts: int = 5, backoff: float = 1.0
) -> Path:
    """The file of a URL, fetched where it is not there yet.

    What comes before a transfer breaks is kept, and the next attempt, or the next call, goes on from there. However
    many processes ask for one file, one fetches it, and the others wait.

    Args:
        url: With http or https.
        sha256: The file's hash in hexadecimal, or at least eight digits that it starts with; None: what its name
            ends with, if that is one.
        timeout: Seconds without a byte after which a transfer is given up.
        attempts: How often in a row no byte may come.
        backoff: Seconds before the second attempt; twice as many before each one after it.

    Returns:
        Where the file is.

    Raises:
        CheckpointError: It cannot be fetched, is not what its hash says, or is a page or an archive.
    """
    path, name = kept_at(url), shown(url)
    if path.is_file():
        return path
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise CheckpointError(f"{name}: only http and https can be fetched")
    if offline():
        raise CheckpointError(
            f"{name}: is not there yet, and BACKBONE_KIT_OFFLINE is set; unset it, or put the file at {path}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.is_file():  # another process may have fetched it meanwhile
                _fetch(url, path, sha256 or named_hash(url), timeout, attempts, backoff)
    except OSError as error:
        raise CheckpointError(
            f"{name}: cannot be kept at {path}: {error.strerror or error}; BACKBONE_KIT_HOME names another folder"
        ) from error
    return path


def _fetch(url: str, path: Path, sha256: str | None, timeout: float, attempts: int, backoff: float) -> None:
    part = Part(path, trusted=sha256 is not None)
    resumed = part.size > 0
    most, failures = part.size, 0
    with _progress(path.name) as tick:
        while True:
            try:
                transfer(url, part, timeout, tick)
                break
            except Interrupted as error:
                failures = 0 if part.size > most else failures + 1
                most = max(most, part.size)
                if failures >= attempts:
                    raise CheckpointError(
                        f"{shown(url)}: {error}, {attempts} times in a row; the {part.size} bytes that came are kept, "
                        "and the next call goes on from there"
                    ) from error
                time.sleep(error.wait if error.wait is not None else backoff * 2 ** max(0, failures - 1))
    found = _sha256(part.path)
    if sha256 and not found.startswith(sha256.lower()):
        part.drop()
        if resumed:  # what an earlier call left may be of another file
            return _fetch(url, path, sha256, timeout, attempts, backoff)
        raise CheckpointError(f"{shown(url)}: has the SHA-256 {found}, not {sha256}; it is not the file that was meant")
    try:
        first_bytes(part.path, shown(url))
    except CheckpointError:
        part.drop()
        raise
    part.keep()
    return None


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Tick]:
    """A bar on the terminal, if there is one."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
