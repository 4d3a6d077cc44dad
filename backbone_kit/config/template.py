r"""Templates in config files: `{{_base_.x}}`, `{{ fileDirname }}` and kin, `{{$VAR:default}}`.

`mark` runs over the text before it is parsed: it puts every template between two marks, and quotes those that stand
outside strings. So every template is inside a string from then on, whatever the format, and `Templates` fills it there.
A template is what the text shows: one brace written as an escape (`\x7b{ fileDirname }}`) makes it plain text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from .limits import Budget, Refused
from .mapping import ConfigDict, as_tree
from .paths import look_up

MARK = "\ue000"
"""Opens a template in marked text; a character of Unicode's private use, so that no text means something by it."""

_END = "\ue001"
# Repetitions that can trade characters with each other are bounded, or a line of blanks would take forever.
_BODY = (
    r"_base_(?:\.\w+)+\s{0,9}|file(?:Dirname|BasenameNoExtension|Basename|Extname)\s{0,9}"
    r"|\$\w+\s{0,9}(?::[^{}\n]{0,999}?)?"
)
_WRITTEN = rf"\{{\{{['\"]?\s{{0,9}}({_BODY})['\"]?\}}\}}"
_MARKED = re.compile(f"{MARK}(=?)([^{MARK}{_END}]*){_END}")
_STRINGS = {
    # A comment counts as a string: nothing in it is a value.
    ".py": r"'''(?:\\[\s\S]|[^\\])*?'''|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|#[^\n]*"
    r"|'(?:\\[\s\S]|[^'\\\n])*'|\"(?:\\[\s\S]|[^\"\\\n])*\"",
    ".json": r"\"(?:\\.|[^\"\\\n])*\"",
    # A quote opens a YAML string only where a value may begin.
    ".yaml": r"(?<![^\s\[{,])(?:'(?:''|[^'])*'|\"(?:\\[\s\S]|[^\"\\])*\"|#[^\n]*)",
}
_STRING_OR_TEMPLATE = {suffix: re.compile(f"({text})|{_WRITTEN}") for suffix, text in _STRINGS.items()}
_TEMPLATE = re.compile(_WRITTEN)


def mark(text: str, suffix: str) -> str:
    """The text with its templates marked, and those outside strings made strings.

    Args:
        text: What the file holds.
        suffix: '.py', '.yaml' or '.json'; says what a string looks like.
    """
    if "{{" not in text:
        return text

    def marked(found: re.Match[str]) -> str:
        if found[1] is None:
            return f'"{MARK}={found[2].strip()}{_END}"'
        return _TEMPLATE.sub(lambda inner: f"{MARK}{inner[1].strip()}{_END}", found[1])

    return _STRING_OR_TEMPLATE[suffix].sub(marked, text)


def escape(text: str, brace: str) -> str:
    """Text of a dumped config in which `brace`, an escape sequence, keeps its strings from being templates."""
    return _TEMPLATE.sub(lambda found: found[0].replace("{{", f"{brace}{{", 1), text)


class Templates:
    """Fills the templates of one file.

    Args:
        filename: The file they are in.
        base: What its bases gave.
        literal: Reads the value of a variable that stands outside a string, such as `80` or `[1, 2]`.
        budget: What the load may still spend.
    """

    def __init__(self, filename: str, base: ConfigDict, literal: Callable[[str], Any], budget: Budget) -> None:
        directory, name = os.path.split(os.path.abspath(filename))
        stem, extension = os.path.splitext(name)
        self.names = {
            "fileDirname": directory.replace("\\", "/"),
            "fileBasename": name,
            "fileBasenameNoExtension": stem,
            "fileExtname": extension,
        }
        self.base, self.literal, self.budget = base, literal, budget

    def fill(self, text: str) -> Any:
        """The string with its templates replaced; a template that is the whole string may become any value."""
        whole = _MARKED.fullmatch(text)
        if whole:
            value = self._value(whole[2])
            return as_tree(self.literal(value)) if whole[1] and whole[2].startswith("$") else value
        return _MARKED.sub(lambda found: self._text(found[2]), text)

    def fill_all(self, value: Any) -> Any:
        """The same for every string in a tree; its mappings are changed in place."""
        if isinstance(value, str):
            return self.fill(value) if MARK in value else value
        if isinstance(value, ConfigDict):
            for key, item in value.items():
                dict.__setitem__(value, key, self.fill_all(item))
        elif isinstance(value, (list, tuple)):
            return type(value)(map(self.fill_all, value))
        return value

    def _text(self, name: str) -> str:
        value = self._value(name)
        if isinstance(value, (str, int, float)):
            text = str(value)
            self.budget.spend(len(text))
            return text
        raise Refused(f"{{{{{name}}}}} is a {type(value).__name__} and cannot stand inside a longer string")

    def _value(self, name: str) -> Any:
        if name.startswith("_base_."):
            return as_tree(look_up(self.base, name.removeprefix("_base_.")), budget=self.budget)
        if name in self.names:
            return self.names[name]
        variable, _, default = (part.strip() for part in name[1:].partition(":"))
        # As in a shell's ${VAR:-default}, an empty variable counts as an unset one.
        value = os.environ.get(variable) or default
        if not value:
            raise Refused(
                f"the environment variable {variable} is not set; set it, or write {{{{${variable}:default}}}}"
            )
        return value
