"""The files of a `_base_` chain: finding and reading them, and naming the way that led to one."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from ..errors import ConfigError, did_you_mean
from .limits import MAX_BYTES, MAX_DEPTH
from .mapping import BASE_KEY

SUFFIXES = {".py": ".py", ".json": ".json", ".yaml": ".yaml", ".yml": ".yaml"}
"""What the name of a config file may end in, and whose syntax that means."""


class Visit(NamedTuple):
    """A file on the way from the outermost one.

    Attributes:
        path: Where it is; '' for a mapping that is no file.
        shown: How messages call it.
        identity: What tells it from every other file, whatever path leads there.
        line: The line of its `_base_`, 0 where it has none.
    """

    path: str
    shown: str
    identity: tuple[int, int] = (0, 0)
    line: int = 0

    def __str__(self) -> str:
        return f"{self.shown}:{self.line}" if self.line else self.shown


Chain = tuple[Visit, ...]


def at(chain: Chain, message: str) -> ConfigError:
    """An error about the `_base_` of the last file of a chain, with the inclusions that led there."""
    names = [str(visit) for visit in chain if visit.shown]
    inclusions = f" (included by {' <- '.join(reversed(names[:-1]))})" if len(names) > 1 else ""
    return ConfigError(message + inclusions, source=names[-1] if names else "")


def visit_file(path: str, chain: Chain) -> Visit:
    """The next file of a chain.

    Raises:
        ConfigError: There is no such file, it is no config, or the chain has been there before.
    """
    shown = _shown(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        raise _missing(path, shown, chain) from None
    if not stat.S_ISREG(status.st_mode):
        raise at(chain, f"{shown} is a {'directory' if stat.S_ISDIR(status.st_mode) else 'device'}, not a config file")
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise at(chain, f"{shown} is no config file: the name must end in one of {', '.join(SUFFIXES)}")
    visit = Visit(path, shown, (status.st_dev, status.st_ino))
    for index, earlier in enumerate(chain):
        if earlier.identity == visit.identity and earlier.path:
            circle = " -> ".join([*map(str, chain[index:]), shown])
            raise at(chain, f"{BASE_KEY} goes in a circle: {circle}; remove one of these inclusions")
    if len(chain) > MAX_DEPTH:
        raise at(chain[:1], f"{BASE_KEY} leads through more than {MAX_DEPTH} files")
    return visit


def read_text(visit: Visit, chain: Chain) -> str:
    """The text of a file, with its line ends made one newline each.

    Raises:
        ConfigError: It cannot be read, is too large, or is no text.
    """
    try:
        with open(visit.path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise at(chain, f"{visit.shown} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"is larger than the {MAX_BYTES:,} bytes a config may have", source=visit.shown)
    try:
        text = content.decode("utf-8-sig")
        where, fault = text.find("\0"), "holds a NUL byte; save it as plain text"
        line = text.count("\n", 0, max(where, 0)) + 1
    except UnicodeDecodeError as error:
        where, fault = error.start, "is not text in UTF-8; save it as UTF-8"
        line = content.count(b"\n", 0, where) + 1
    if where >= 0:
        raise ConfigError(fault, source=f"{visit.shown}:{line}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _missing(path: str, shown: str, chain: Chain) -> ConfigError:
    directory, name = os.path.split(path)
    try:
        names = [entry for entry in os.listdir(directory or ".") if os.path.splitext(entry)[1] in SUFFIXES]
    except (OSError, ValueError):
        names = []
    cure = f"{BASE_KEY} is relative to the file that says it" if chain else "check the path and the working directory"
    return at(chain, f"{shown} does not exist{did_you_mean(name, names) or f'; {cure}'}")


def _shown(path: str) -> str:
    """The path as it was written, or relative to the working directory where it leads into that and is shorter."""
    try:
        relative = os.path.relpath(path)
        return path if relative.startswith(os.pardir) else min(path, relative, key=len)
    except ValueError:  # another drive, or a NUL byte
        return path
