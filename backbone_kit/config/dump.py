"""What dumped configs share: the error for a value without a text, and a file that is replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from typing import Any

from ..errors import ConfigError, Path


def unwritable(value: Any, path: Path = ()) -> ConfigError:
    """The error for a value that no format has a text for."""
    kind = type(value)
    cure = "; write its .tolist()" if hasattr(kind, "tolist") else ""
    return ConfigError(f"{value!r:.60} ({kind.__name__}) cannot be written to a file{cure}", path)


def replace_file(path: str, text: str) -> None:
    """Writes a file beside its place and moves it there, so that none is ever half written.

    Raises:
        ConfigError: The system refuses it, and why; what was there is as it was.
    """
    try:
        place = os.path.realpath(path)
        folder, name = os.path.split(place)
        exists = os.path.exists(place)
        if exists and not os.access(place, os.W_OK):  # moving asks for the folder's permission only
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as beside:
            written = os.path.join(beside, name)
            with open(written, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            if exists:
                shutil.copymode(place, written)
            os.replace(written, place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path!r} cannot be written: {reason}") from None
