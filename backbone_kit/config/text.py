"""Text from values, as `str`, `%`, `str.format` and f-strings make it: no attribute is read, no width is boundless."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .limits import MAX_WIDTH, Budget, Refused
from .mapping import type_name

_DATA = (str, int, float, list, tuple, dict, set, type(None))
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}


def to_text(value: Any, budget: Budget, conversion: str = "s") -> str:
    """`str(value)`, `repr(value)` or `ascii(value)` of data."""
    _weigh(value, budget)
    return _CONVERSIONS[conversion](value)


def _weigh(value: Any, budget: Budget) -> None:
    if not isinstance(value, _DATA):
        raise Refused(f"{type_name(value)} has no text in a config")
    budget.weigh(value)


def formatted(value: Any, spec: str, budget: Budget) -> str:
    """`format(value, spec)`."""
    if not spec or not isinstance(value, (str, int, float)):
        if spec:
            raise Refused(f"a {type(value).__name__} takes no format {spec!r:.40}")
        return to_text(value, budget)
    _check_widths(spec)
    text = format(value, spec)
    budget.spend(1 + len(text))
    return text


def percent(template: str, values: Any, budget: Budget) -> str:
    """`template % values`."""
    if len(template) > MAX_WIDTH:
        raise Refused(f"a template of {len(template):,} characters for %; {MAX_WIDTH:,} are the most")
    if re.search(r"%(?:\([^)]*\))?[-+ #0-9.]*\*", template):
        raise Refused("a width taken from the values (`%*d`) is not supported; write it in the text")
    _check_widths(" ".join(re.findall(r"%(?:\([^)]*\))?([-+ #0-9.]*)", template)))
    for value in values if isinstance(values, tuple) else (values,):
        _weigh(value, budget)
    # A mapping may be shown as often as the template likes.
    budget.spend(len(template) + template.count("%") * (len(str(values)) if isinstance(values, dict) else 1))
    text: str = template % values
    budget.spend(len(text))
    return text


def format_method(template: str, budget: Budget, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """`template.format(*args, **kwargs)`."""
    return _DataFormatter(budget).vformat(template, args, kwargs)


class _DataFormatter(string.Formatter):
    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if "." in field_name:
            raise Refused(f"{{{field_name}}} reads an attribute, which a config cannot; format the value itself")
        return super().get_field(field_name, args, kwargs)

    def format_field(self, value: Any, format_spec: str) -> str:
        return formatted(value, format_spec, self.budget)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return to_text(value, self.budget, conversion) if conversion else value


def _check_widths(spec: str) -> None:
    for width in re.findall(r"\d+", spec):
        if len(width) > 9 or int(width) > MAX_WIDTH:
            raise Refused(f"a width of {width[:20]} in a format; {MAX_WIDTH:,} is the most")
