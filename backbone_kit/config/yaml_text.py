"""YAML with the line of every key, read through a safe event stream; numbers as YAML 1.2 reads them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ..errors import ConfigError
from .document import MERGE, DocumentBuilder
from .dump import unwritable
from .limits import Budget
from .template import escape

_PREFIX = "tag:yaml.org,2002:"
_PATTERNS = {
    "bool": ("yYnNtTfFoO", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    "int": ("-+0123456789", r"[-+]?(?:0b[01][01_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0[0-7_]*|[1-9][0-9_]*)"),
    # 1e-3 too, which YAML 1.1 takes for a string.
    "float": (
        "-+0123456789.",
        r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    ),
    "null": ("~nN\0", r"~|null|Null|NULL|"),
    "merge": ("<", r"<<"),
}
"""Of each type: the first characters of its plain scalars ('\\0': the empty one), and what they look like. Dates and
base-60 numbers are not among them: 2024-01-01 and 12:30:00 are strings."""


class _Resolver(yaml.resolver.BaseResolver):
    yaml_implicit_resolvers: dict[Any, Any] = {}


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[Any, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_first, _pattern) in _PATTERNS.items():
    for _class in (_Resolver, _Dumper):
        _marks = ["" if first == "\0" else first for first in _first]
        _class.add_implicit_resolver(_PREFIX + _name, re.compile(f"(?:{_pattern})\\Z"), _marks)

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = _Resolver()


def read_yaml(text: str, file: str, budget: Budget) -> Any:
    """The document as `Traced` dicts, lists and scalars.

    Raises:
        ConfigError: The text is no YAML, or asks for an object; it names the line.
    """
    builder = DocumentBuilder(file, budget)
    line = 1
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else line
            if isinstance(event, yaml.ScalarEvent):
                builder.value(_scalar(event, builder, line), line, event.anchor)
            elif isinstance(event, yaml.CollectionStartEvent):
                builder.open(_collection(event, builder, line), line, event.anchor)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.close()
            elif isinstance(event, yaml.AliasEvent):
                builder.alias(event.anchor or "", line)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = place.line + 1 if place else text.count("\n", 0, getattr(error, "position", 0)) + 1
        written = text.split("\n", line)[line - 1 : line] or [""]
        tab = "\t" in written[0][: len(written[0]) - len(written[0].lstrip())]
        cure = "; YAML is indented with spaces, not with tabs" if tab else ""
        raise builder.error(f"is no YAML: {getattr(error, 'problem', None) or error}{cure}", line) from None
    except (RecursionError, MemoryError, UnicodeError) as error:
        raise builder.error(f"is no YAML that can be read: {type(error).__name__}", line) from None
    return builder.root


def _collection(event: Any, builder: DocumentBuilder, line: int) -> type:
    sequence = isinstance(event, yaml.SequenceStartEvent)
    kinds: dict[str, type] = {"seq": list, "python/tuple": tuple} if sequence else {"map": dict, "set": set}
    if event.tag in (None, "!"):
        return list if sequence else dict
    kind = kinds.get(event.tag.removeprefix(_PREFIX))
    if kind is None:
        raise builder.error(_unknown(event.tag, ("seq", "map", "set", "python/tuple")), line)
    return kind


def _scalar(event: Any, builder: DocumentBuilder, line: int) -> Any:
    tag = event.tag if event.tag not in (None, "!") else _tag_of(event.value) if event.implicit[0] else _PREFIX + "str"
    construct = _SCALARS.get(tag.removeprefix(_PREFIX))
    if construct is None:
        raise builder.error(_unknown(tag, [name for name in _SCALARS if name != "merge"]), line)
    try:
        return construct(event.value)
    except (ValueError, KeyError):
        raise builder.error(f"{event.value!r:.60} is no {tag.removeprefix(_PREFIX)}", line) from None


def _tag_of(text: str) -> str:
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return tag


def plain_scalar(text: str) -> Any:
    """What an unquoted scalar means: a number, true, null, or itself."""
    tag = _tag_of(text).removeprefix(_PREFIX)
    return text if tag == "merge" else _SCALARS[tag](text)


def _unknown(tag: str, allowed: Any) -> str:
    short = "!!" + tag.removeprefix(_PREFIX) if tag.startswith(_PREFIX) else tag
    names = ", ".join(f"!!{name}" for name in allowed)
    return f"the tag {short!r:.60} is not allowed: a config holds data; write one of {names}"


def _int(text: str) -> int:
    digits = text.replace("_", "")
    sign, digits = (-1 if digits.startswith("-") else 1), digits.lstrip("-+")
    base = {"0b": 2, "0x": 16}.get(digits[:2], 8 if digits.startswith("0") else 10)
    if len(digits) > 4300:
        raise ValueError(f"{len(digits)} digits")
    return sign * int(digits[2:] if base in (2, 16) else digits, base)


def _float(text: str) -> float:
    word = text.replace("_", "").lower()
    return float(word.replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Any] = {
    "str": str,
    "int": _int,
    "float": _float,
    "bool": lambda text: {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}[
        text.lower()
    ],
    "null": lambda text: None,
    "merge": lambda text: MERGE,
}


def write_yaml(config: dict[Any, Any]) -> str:
    """The text of a config."""
    try:
        text = yaml.dump(
            config, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=1 << 30
        )
    except (yaml.YAMLError, UnicodeError) as error:
        raise ConfigError(f"cannot be written as YAML: {error}") from None
    return escape(text, "\\x7b")


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    text.encode()
    # Escapes, which a brace and an odd line break need, are possible in double quotes only.
    return dumper.represent_scalar(_PREFIX + "str", text, style='"' if "{{" in text or not text.isprintable() else None)


def _refuse(dumper: yaml.SafeDumper, value: Any) -> yaml.Node:
    raise unwritable(value)


_Dumper.add_multi_representer(object, _refuse)
_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(tuple, lambda dumper, items: dumper.represent_sequence(_PREFIX + "python/tuple", items))
