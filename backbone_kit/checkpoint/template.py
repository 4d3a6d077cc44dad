"""Names of weights with numbers in them: `layer{s}.{j}.conv{i}.{p}` read from a key, and written as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

_FIELD = re.compile(r"\{([a-z]+)(?:([+-]\d+)|:([a-z]+))?\}")
_WORDS = {"p": r"[A-Za-z_]+", "rest": r".+"}

Values = Mapping[str, int | str]


class Template:
    """A pattern of keys that reads values from a key and writes a key from values.

    Args:
        text: A key with fields. `{p}` is a parameter's name (letters and underscores), `{rest}` anything; every other
            field is a number, `{s+1}` that number raised by one, `{i:abc}` the number 1 as 'a', 2 as 'b', 3 as 'c'. A
            field that comes again reads the same.

    Examples:
        >>> values = Template('layer{s}.{j}.conv{i}.{p}').read('layer1.0.conv2.weight')
        >>> Template('res{s+1}_{j}_branch2{i:abc}_w').write(values)
        'res2_0_branch2b_w'
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[str | tuple[str, int, str]] = []
        pattern, end = "", 0
        for field in _FIELD.finditer(text):
            name, offset, letters = field.group(1), int(field.group(2) or 0), field.group(3) or ""
            literal = text[end : field.start()]
            self.parts += [literal, (name, offset, letters)]
            inside = f"[{letters}]" if letters else _WORDS.get(name, r"0|[1-9]\d*")
            again = f"(?P<{name}>" in pattern
            pattern += re.escape(literal) + (f"(?P={name})" if again else f"(?P<{name}>{inside})")
            end = field.end()
        self.parts.append(text[end:])
        self._match = re.compile(pattern + re.escape(text[end:])).fullmatch

    @property
    def literal(self) -> str:
        """What stands before the first field, without the dot."""
        return self.text.partition("{")[0].rstrip("._")

    def read(self, key: str) -> dict[str, int | str] | None:
        """The values of the fields, None where the key is not of this form."""
        found = self._match(key)
        if found is None:
            return None
        values: dict[str, int | str] = {}
        for part in self.parts:
            if isinstance(part, tuple):
                name, offset, letters = part
                text = found[name]
                if letters:
                    values[name] = letters.index(text) + 1
                else:
                    values[name] = text if name in _WORDS else int(text) - offset
        return values

    def write(self, values: Values) -> str | None:
        """The key with these values, None where a number has no place in it."""
        words = []
        for part in self.parts:
            if isinstance(part, str):
                words.append(part)
                continue
            name, offset, letters = part
            value = values[name]
            if isinstance(value, int):
                value += offset
                if value < 0 or (letters and not 1 <= value <= len(letters)):
                    return None
                value = letters[value - 1] if letters else value
            words.append(str(value))
        return "".join(words)


@cache
def template(text: str) -> Template:
    """The template of a text, made once."""
    return Template(text)
