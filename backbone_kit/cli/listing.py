"""What a config can name: backbones, layers and plugins, with their arguments."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .parser import add_format_arguments
from .table import Table, print_json, print_table, terminal_width

if TYPE_CHECKING:
    from ..registry import Registry

KINDS = ("backbones", "convs", "norms", "activations", "paddings", "plugins")


@dataclass(frozen=True)
class Entry:
    """Something that `type` can name.

    Attributes:
        name: Its name.
        arguments: What else a config can set, each as 'name' or 'name=default'.
        summary: The first line of its docstring.
    """

    name: str
    arguments: list[str]
    summary: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit list`."""
    parser.add_argument("kind", nargs="?", choices=KINDS, help="one kind only")
    add_format_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the entries of one registry, or of all."""
    registries = _registries()
    chosen = {kind: entries_of(registries[kind]) for kind in ([args.kind] if args.kind else KINDS)}
    if args.json:
        print_json({kind: [asdict(entry) for entry in entries] for kind, entries in chosen.items()})
    elif args.markdown:
        rows = [(k, e.name, ", ".join(e.arguments), e.summary) for k, entries in chosen.items() for e in entries]
        print_table(Table(("kind", "type", "arguments", "what it is"), rows), markdown=True)
    else:
        print("\n\n".join(_paragraphs(kind, entries) for kind, entries in chosen.items()))
    return 0


def entries_of(registry: Registry) -> list[Entry]:
    """The entries of a registry, by name."""
    found = [(name, registry.get(name)) for name in sorted(registry, key=str.lower)]
    return [Entry(name, _arguments(target, registry), _summary(target)) for name, target in found if target]


def _registries() -> dict[str, Registry]:
    from .. import layers
    from ..backbones import BACKBONES

    return {
        "backbones": BACKBONES,
        "convs": layers.CONV_LAYERS,
        "norms": layers.NORM_LAYERS,
        "activations": layers.ACTIVATION_LAYERS,
        "paddings": layers.PADDING_LAYERS,
        "plugins": layers.PLUGIN_LAYERS,
    }


def _arguments(target: Callable[..., Any], registry: Registry) -> list[str]:
    from ..signature import parameters

    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        name if parameter.default is parameter.empty else f"{name}={_shown(parameter.default)}"
        for name, parameter in parameters(target).items()
        if name not in (*registry.supplied, "device", "dtype") and parameter.kind not in variadic
    ]


def _shown(default: Any) -> str:
    return repr(dict(default) if isinstance(default, Mapping) else default)


def _summary(target: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(target) or "").strip().splitlines()
    return lines[0] if lines else ""


def _paragraphs(kind: str, entries: list[Entry]) -> str:
    lines = [f"{kind} ({len(entries)})"]
    for entry in entries:
        lines += textwrap.wrap(
            f"{entry.name}: {entry.summary}".rstrip(": "),
            terminal_width(),
            initial_indent="  ",
            subsequent_indent="    ",
        )
        arguments = ", ".join(entry.arguments)
        lines += textwrap.wrap(arguments, terminal_width(), initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
