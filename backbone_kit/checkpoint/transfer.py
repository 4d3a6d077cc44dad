"""One transfer of a file, or of what is missing of it, by HTTP."""

from __future__ import annotations

import http.client
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

PIECE = 2**20
"""Bytes that are taken at a time."""

Tick = Callable[[int, int | None], None]
"""Told of each piece: how many bytes there are, and of how many."""

_PASSING = {408, 425, 429, 500, 502, 503, 504}


class Interrupted(Exception):
    """A transfer ended early, and may be tried again after `wait` seconds (None: the usual time)."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Part:
    """What has come of a file, beside the place that it will have.

    Args:
        path: That place.
        trusted: Whether the whole will be checked, so that a part of unknown version may be gone on with.
    """

    def __init__(self, path: Path, trusted: bool) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._whole = path
        self._version = path.with_name(f"{path.name}.version")
        self._trusted = trusted

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> str:
        """The server's word for the version that this is a part of."""
        return self._version.read_text() if self._version.is_file() else ""

    def start(self) -> int:
        """Where to go on; what may be a part of another version is thrown away."""
        if not (self._trusted or self.version):
            self.drop()
        return self.size

    def begin(self, version: str | None) -> None:
        """Starts anew, with a file of this version; one that is called weak is not for parts."""
        self.drop()
        if version and not version.startswith("W/"):
            self._version.write_text(version)

    def drop(self) -> None:
        """Throws it away."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)

    def keep(self) -> None:
        """Puts it, whole now, into its place."""
        os.replace(self.path, self._whole)
        self._version.unlink(missing_ok=True)


def transfer(url: str, part: Part, timeout: float, tick: Tick) -> None:
    """Fetches what is missing of a file.

    Raises:
        Interrupted: It did not come whole.
        CheckpointError: There is no sense in trying again.
    """
    start = part.start()
    headers = {"User-Agent": "backbone_kit"}
    if start:
        headers["Range"] = f"bytes={start}-"
        headers |= {"If-Range": part.version} if part.version else {}
    with _opened(urllib.request.Request(url, headers=headers), part, timeout) as answer:
        length = answer.headers.get("Content-Length")
        if answer.status == 206:
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.drop()
                raise Interrupted("the server sent another part than the one that was asked for")
        else:
            start = 0
            part.begin(answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
        whole = start + int(length) if length and length.isdecimal() else None
        with part.path.open("ab") as file:
            tick(start, whole)
            while piece := _next_piece(answer):
                file.write(piece)
                tick(file.tell(), whole)
            file.flush()
            os.fsync(file.fileno())
    if whole is not None and part.size != whole:
        raise Interrupted(f"the transfer ended after {part.size} of {whole} bytes")


def _opened(request: urllib.request.Request, part: Part, timeout: float) -> Any:
    name = shown(request.full_url)
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # no such part: the file there is shorter
            part.drop()
            raise Interrupted("the server has not what is missing") from error
        if error.code in _PASSING:
            wait = error.headers.get("Retry-After", "")
            raise Interrupted(f"the server says {error.code} {error.msg}", _seconds(wait)) from error
        raise CheckpointError(f"{name}: the server says {error.code} {error.msg}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise CheckpointError(f"{name}: {error.reason}") from error
        raise Interrupted(f"the server cannot be reached ({error.reason})") from error
    except http.client.InvalidURL as error:
        raise CheckpointError(f"{name}: is no URL: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(f"the server does not answer ({error or type(error).__name__})") from error


def _next_piece(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(PIECE)  # what has come: `read` would wait for all of it, and lose it to a time-out
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(f"the transfer broke off ({error or type(error).__name__})") from error


def _seconds(wait: str) -> float | None:
    """What `Retry-After` asks for, at most a minute; a date is not waited for."""
    return min(float(wait), 60.0) if wait.isdecimal() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not out of encryption."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request that follows a redirect."""
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise CheckpointError(f"{shown(req.full_url)}: redirects to {shown(newurl)}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def shown(url: str) -> str:
    """A URL without what may be secret in it: user, password, query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
