"""Tables for a terminal, for a pipe and for Markdown."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .text import can_print


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Attributes:
        columns: Headings; one that starts with '>' has its cells aligned to the right.
        rows: Cells, one for each column. Columns without any text are left out.
        total: A last row set apart, () for none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] = ()

    def compact(self) -> Table:
        """Without the columns that are empty in every row."""
        keep = [i for i in range(len(self.columns)) if any(row[i] for row in (*self.rows, self.total) if row)]
        columns, *rows = ([row[i] for i in keep] if row else [] for row in (self.columns, *self.rows, self.total))
        return Table(columns, rows[:-1], rows[-1])

    def width(self) -> int:
        """Characters from side to side as plain text."""
        return max(map(len, _plain(self.compact()).splitlines()))


def print_table(table: Table, *, markdown: bool = False) -> None:
    """Prints a table: in Markdown, ruled on a terminal that is wide enough, else as plain text."""
    table = table.compact()
    if markdown:
        print(_markdown(table))
        return
    if sys.stdout.isatty() and table.width() <= terminal_width():
        _print_ruled(table)
    else:
        print(_plain(table))


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(text if can_print(text) else json.dumps(value, indent=2, allow_nan=False))


def terminal_width() -> int:
    """Columns to fill: the terminal's, 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def _headings(table: Table) -> tuple[list[str], list[bool]]:
    return [name.removeprefix(">") for name in table.columns], [name.startswith(">") for name in table.columns]


def _plain(table: Table) -> str:
    names, right = _headings(table)
    lines = [names, *table.rows, *([table.total] if table.total else [])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join(map(line, lines))


def _markdown(table: Table) -> str:
    names, right = _headings(table)
    lines = [names, ["---:" if r else "---" for r in right], *table.rows, *([table.total] if table.total else [])]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def _print_ruled(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Ruled

    names, right = _headings(table)
    grid = Ruled(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_footer=bool(table.total)
    )
    for name, footer, aligned in zip(names, table.total or [""] * len(names), right, strict=True):
        grid.add_column(name, footer, justify="right" if aligned else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*row)
    Console(markup=False, highlight=False).print(grid)
