"""How pickles write numbers and text."""

from __future__ import annotations

import codecs


def text(data: bytes) -> str:
    """Text."""
    return str(data, "utf-8", "surrogatepass")


def old_text(data: bytes) -> str:
    """Text of Python 2, which may be the bytes of an array."""
    return data.decode("latin1")


def quoted_text(line: bytes) -> str:
    """The same, in quotes."""
    return old_text(codecs.escape_decode(line[1:-1])[0])


def decimal(line: bytes) -> int | bool:
    """An integer in digits, with an L behind it where it was long; 00 and 01 are False and True."""
    return line == b"01" if line in (b"00", b"01") else int(line.rstrip(b"L"))


def integer(data: bytes) -> int:
    """An integer in bytes, the lowest first."""
    return int.from_bytes(data, "little", signed=True)


def escaped_text(line: bytes) -> str:
    """Text of protocol 0."""
    return str(line, "raw-unicode-escape")
