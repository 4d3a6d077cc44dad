"""A server on the loopback that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Each path has a list of answers: functions of the handler, taken in turn; the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Callable[[Any], Any]]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()

    def url(self, path: str, *answers: Callable[[Any], Any]) -> str:
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"

    def next_answer(self, path: str, part: str | None) -> Callable[[Any], Any]:
        with self._lock:
            self.asked.append((path, part))
            answers = self.answers.get(path, [status(404)])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of the test's."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.next_answer(self.path, self.headers.get("Range"))(self)

    def log_message(self, *_: Any) -> None:
        pass


def status(code: int, **headers: str) -> Callable[[Any], Any]:
    def answer(handler: Any) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def content(
    data: bytes,
    *,
    etag: str | None = '"1"',
    send: int | None = None,
    said: int | None = None,
    stall: bool = False,
    ranges: bool = True,
    lie: int = 0,
) -> Callable[[Any], Any]:
    """A file.

    Args:
        data: All of it.
        etag: Its version.
        send: How many of the bytes asked for are sent.
        said: What the length of all of it is said to be.
        stall: Whether the connection then stays open.
        ranges: Whether a part can be asked for.
        lie: How far off the part is that is sent.
    """

    def answer(handler: Any) -> None:
        part, version = handler.headers.get("Range"), handler.headers.get("If-Range")
        start = int(part.removeprefix("bytes=").removesuffix("-")) if part and ranges and version in (None, etag) else 0
        if start > len(data):
            return status(416)(handler)
        body = data[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str((len(data) if said is None else said) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start + lie}-{len(data) - 1}/{len(data)}")
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(body[:send])
        if stall:
            handler.server.ended.wait(20)
        return None

    return answer


def chunked(data: bytes, chunks: int, whole: bool = True) -> Callable[[Any], Any]:
    """A file of a length that is not said; `whole` tells whether its end is."""

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        size = -(-len(data) // chunks)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n" if whole else b"")

    return answer
