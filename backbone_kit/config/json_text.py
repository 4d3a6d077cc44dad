"""JSON with the line of every key; tuples, sets and keys that are no strings are written as one-key objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError
from .document import DocumentBuilder
from .dump import unwritable
from .limits import Budget
from .origins import Traced
from .template import escape

_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:(?P<mark>[{}\[\],:])|(?P<string>"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")"""
    r"""|(?P<number>(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|NaN|-?Infinity)(?![\w.]))"""
    r"""|(?P<end>\Z)|(?P<other>[\S\s]{1,20}))""",
    re.ASCII,
)
_TAGS = ("!tuple", "!set", "!dict")
_CLOSING = {"{": "}", "[": "]"}
_WORDS = {
    **dict.fromkeys(["{", "[", "string", "number"], "a value"),
    "key": "a key in double quotes",
    "end": "the end of the file",
}
_VALUE = ("{", "[", "string", "number")
_KEY = ("key",)


def read_json(text: str, file: str, budget: Budget) -> Any:
    """The document as `Traced` dicts and lists.

    Raises:
        ConfigError: The text is no JSON; it names the line.
    """
    builder = DocumentBuilder(file, budget)
    closers: list[str] = []
    expected: tuple[str, ...] = _VALUE
    for kind, token, line in _tokens(text):
        kind = "key" if kind == "string" and expected[0] == "key" else kind
        if kind not in expected:
            got = "the end of the file" if kind == "end" else repr(token[:20])
            wanted = dict.fromkeys(_WORDS.get(each, repr(each)) for each in expected)
            raise builder.error(f"is no JSON: expected {' or '.join(wanted)}, got {got}", line)
        if kind in _CLOSING:
            builder.open(dict if kind == "{" else list, line)
            closers.append(_CLOSING[kind])
            expected = (*(_KEY if kind == "{" else _VALUE), _CLOSING[kind])
        elif kind == ":":
            expected = _VALUE
        elif kind == ",":
            expected = _KEY if closers[-1] == "}" else _VALUE
        else:
            if kind in _CLOSING.values():
                closers.pop()
                builder.close()
            elif kind != "end":
                builder.value(_scalar(token, builder, line), line)
            expected = (":",) if kind == "key" else (",", closers[-1]) if closers else ("end",)
    return _untag(builder.root, builder)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind (a mark itself, or the name of the group), text and line of each token; the last one is the end."""
    line, counted = 1, 0
    for found in _TOKEN.finditer(text):
        group = found.lastgroup or "other"
        start = found.start(group)
        line += text.count("\n", counted, start)
        counted = start
        yield (found[group] if group == "mark" else group), found[group], line
        if group in ("end", "other"):
            return


def _scalar(token: str, builder: DocumentBuilder, line: int) -> Any:
    try:
        return json.loads(token)
    except ValueError as error:
        raise builder.error(f"is no JSON: {error}", line) from None


def _untag(value: Any, builder: DocumentBuilder) -> Any:
    """Tuples, sets and dicts from the one-key objects that stand for them; the tree is as deep as a document may be."""
    if isinstance(value, list):
        return [_untag(item, builder) for item in value]
    if not isinstance(value, Traced):
        return value
    for key, item in value.items():
        value[key] = _untag(item, builder)
    tag, items = next(iter(value.items()), ("", None)) if len(value) == 1 else ("", None)
    if tag not in _TAGS or not isinstance(items, list):
        return value
    try:
        return tuple(items) if tag == "!tuple" else set(items) if tag == "!set" else _pairs(items, value.lines[tag])
    except (TypeError, ValueError):
        line = value.lines[tag]
        raise builder.error(
            f"{tag} holds what cannot be in a {tag[1:]}", line if isinstance(line, int) else 1
        ) from None


def _pairs(items: list[Any], line: Any) -> Traced:
    result = Traced()
    for key, value in items:
        result[key] = value
        result.lines[key] = line
    return result


def write_json(config: dict[Any, Any]) -> str:
    """The text of a config."""
    try:
        return escape(json.dumps(_tag(config, ()), indent=2), "\\u007b") + "\n"
    except ValueError as error:
        raise ConfigError(f"cannot be written as JSON: {error}") from None


def _tag(value: Any, path: tuple[Any, ...]) -> Any:
    if isinstance(value, dict):
        items = [(key, _tag(item, (*path, key))) for key, item in value.items()]
        plain = all(type(key) is str for key in value) and not (len(value) == 1 and next(iter(value)) in _TAGS)
        return dict(items) if plain else {"!dict": [[_tag(key, path), item] for key, item in items]}
    if isinstance(value, list):
        return [_tag(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, (tuple, set, frozenset)):
        return {"!tuple" if isinstance(value, tuple) else "!set": [_tag(item, path) for item in value]}
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise unwritable(value, path)
