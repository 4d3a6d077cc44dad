"""Writes docs/layers.md, the tables of all registered layers; `tests/test_layers_page.py` checks it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backbone_kit.layers import ACTIVATION_LAYERS, CONV_LAYERS, NORM_LAYERS, PADDING_LAYERS, PLUGIN_LAYERS
from backbone_kit.registry import Registry
from backbone_kit.signature import parameters

PAGE = Path(__file__).resolve().parent.parent / "docs" / "layers.md"

INTRODUCTION = """# Layers

What `type` may be in `conv_cfg`, `norm_cfg`, `act_cfg`, a padding mode and a plugin's `cfg`, with the options beside
it; one without a value here has to be given. What the layer around it sets itself, such as the channels, is left out.
PyTorch's own layers take what PyTorch documents. `python tools/update_layers.py` writes this page.
"""

PLUGIN_TEXT = """\
`plugins=[dict(cfg=dict(type=...), position="after_conv3", stages=...)]`. Beside its own options, each takes `postfix`,
which ends its name in a block, and `width_arg`, the name of the argument that is the channels of the map, where that is
not `in_channels` (None: it takes none). A class of your own goes in as `type`, or by its name once it is registered."""

SECTIONS: Mapping[str, tuple[Registry, str]] = {
    "Convolutions": (CONV_LAYERS, "`conv_cfg`; where the convolution is deformable, `dcn`."),
    "Norms": (NORM_LAYERS, "`norm_cfg`. Beside its own options, each takes `requires_grad=True`, of its parameters."),
    "Activations": (ACTIVATION_LAYERS, "`act_cfg`."),
    "Paddings": (PADDING_LAYERS, "`padding_mode` of a `ConvModule`."),
    "Plugins": (PLUGIN_LAYERS, PLUGIN_TEXT),
}


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(title, *content) for title, content in SECTIONS.items())])


def section(title: str, registry: Registry, text: str) -> str:
    """A heading, a text and a table with a row for each layer, under all its names."""
    names: dict[Callable[..., Any], list[str]] = {}
    for name in registry:
        names.setdefault(registry.get(name), []).append(name)  # type: ignore[arg-type]
    in_order = sorted(names.items(), key=lambda item: item[1][0].lower())
    rows = [row(layer, known, registry) for layer, known in in_order]
    table = ["| type | what | options | source |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([f"## {title}", "", text, "", *table, ""])


def row(layer: Callable[..., Any], names: list[str], registry: Registry) -> str:
    """One layer."""
    known = ", ".join(f"`{name}`" for name in names)
    if layer.__module__.startswith("torch."):
        return f"| {known} | `torch.nn.{layer.__name__}` | | |"
    text = inspect.getdoc(layer) or ""
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    cells = (known, _line(text.split("\n\n")[0]), options(layer, registry), _line(source.group(1) if source else ""))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def options(layer: Callable[..., Any], registry: Registry) -> str:
    """What a config can say, with defaults."""
    left_out = {*registry.supplied_to(layer, {}), "device", "dtype"}
    shown = [parameter for name, parameter in parameters(layer).items() if name not in left_out]
    return ", ".join(f"`{p.name}`" if p.default is p.empty else f"`{p.name}={_plain(p.default)!r}`" for p in shown)


def _plain(value: Any) -> Any:
    """Read-only mappings as dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
