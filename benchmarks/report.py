"""The figures as tables and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .goals import goals
from .rounds import described

# A part's title, and the column after the names.
ROWS = {
    "inference": "Inference, ResNet-50, 1×3×512×512, float32 where nothing else is said",
    "fine-tuning": "A step of fine-tuning, ResNet-50, 2×3×512×512, stem and first stage frozen, norms in eval",
    "training": "A step of training as a whole, ResNet-50, 2×3×512×512, norms on the batch's statistics",
}
GROWTHS = {
    "families": ("Other families, inference at 1×3×256×256, seconds", "net", "seconds", ".3f"),
    "inference by size": ("Inference by the side of the picture, ResNet-50, seconds", "side", "seconds", ".2f"),
    "fine-tuning by batch": ("Fine-tuning by the batch, 256×256, seconds a step", "pictures", "seconds", ".2f"),
}
MEMORIES = {
    "inference by size": ("The same: most memory at one time, MiB", "side", "peak MiB", ".0f"),
    "fine-tuning by batch": ("The same: kept for backward, MiB", "pictures", "kept MiB", ".0f"),
}
COLUMNS = {
    "seconds": ".3f",
    "processor": ".3f",
    "times the first": ".2f",
    "GFLOP/s": ".0f",
    "kept MiB": ".1f",
    "peak MiB": ".0f",
}


def markdown(report: Mapping[str, Any]) -> str:
    """All parts that the report has, as a page."""
    lines = [
        "# Side by side",
        "",
        f"{described(report['machine'])}. Medians of {report['rounds']} or more interleaved rounds, fewer where a run "
        "is long; a part may have been measured again later; 'processor' is processor time, 'times the first' its "
        "ratio to the first row's within a round. Made by "
        "`python -m benchmarks`.",
    ]
    if table := goals(report):
        lines += ["", "## Goals", "", *table]
    for part, values in report.items():
        if part in ROWS:
            lines += ["", f"## {ROWS[part]}", "", *_rows(values)]
        for title, corner, key, form in (table[part] for table in (GROWTHS, MEMORIES) if part in table):
            lines += ["", f"## {title}", "", *_grid(values, corner, key, form)]
    if "deformable" in report:
        lines += ["", "## Deformable convolution, two pictures, modulated", "", *_deformable(report["deformable"])]
    if "starting" in report:
        lines += ["", "## Starting", "", "| | seconds |", "| --- | --: |"]
        lines += [f"| {name} | {value:.3f} |" for name, value in report["starting"].items()]
    return "\n".join(lines) + "\n"


def _rows(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    keys = [key for key in COLUMNS if key in next(iter(rows.values()))]
    lines = [f"| | {' | '.join(keys)} |", "| --- |" + " --: |" * len(keys)]
    return lines + [
        f"| {name} | {' | '.join(f'{row[key]:{COLUMNS[key]}}' for key in keys)} |" for name, row in rows.items()
    ]


def _grid(values: Mapping[str, Mapping[str, Mapping[str, float]]], corner: str, key: str, form: str) -> list[str]:
    kinds = list(next(iter(values.values())))
    lines = [f"| {corner} | {' | '.join(kinds)} |", "| --- |" + " --: |" * len(kinds)]
    return lines + [
        f"| {at} | {' | '.join(f'{rows[kind][key]:{form}}' for kind in kinds)} |" for at, rows in values.items()
    ]


def _deformable(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| channels×H×W | forward, ms | torchvision | times faster | forward and backward, ms | torchvision "
        "| times faster |",
        "| --- |" + " --: |" * 6,
    ]
    for row in rows:
        cells = [row["case"]]
        for step in ("forward", "forward and backward"):
            times = row[step]["milliseconds"]
            cells += [f"{times['ours']:.1f}", f"{times['torchvision']:.1f}"]
            cells.append(f"{row[step]['times faster than torchvision']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Bars for one net, lines for what grows; ours in blue."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = iter(figure.subplots(2, 3).flat)
    bars = (
        ("inference", "seconds", "inference, 512×512, s"),
        ("fine-tuning", "seconds", "fine-tuning step, 2×512×512, s"),
        ("fine-tuning", "kept MiB", "kept for backward, MiB"),
    )
    for part, key, title in bars:
        if part in report:
            _bars(next(axes), {name: row[key] for name, row in report[part].items()}, title)
    if "families" in report:
        ratios = {
            f"{net}, {kind}": rows["timm"]["seconds"] / rows[kind]["seconds"]
            for net, rows in report["families"].items()
            for kind in rows
            if kind in ("prepared", "timm, compiled")
        }
        _bars(next(axes), ratios, "times faster than timm as built")
    lines = (
        ("inference by size", "seconds", "inference by side of the picture, s"),
        ("fine-tuning by batch", "kept MiB", "kept for backward by batch, MiB"),
    )
    for part, key, title in lines:
        if part in report:
            _lines(next(axes), report[part], key, title)
    for left in axes:
        left.set_axis_off()
    FigureCanvasAgg(figure).print_png(str(path))


def _bars(axes: Any, values: Mapping[str, float], title: str) -> None:
    colours = ["tab:blue" if name.startswith("ours") or "prepared" in name else "tab:grey" for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    _dress(axes, title)


def _lines(axes: Any, values: Mapping[str, Mapping[str, Mapping[str, float]]], key: str, title: str) -> None:
    for kind, style in zip(next(iter(values.values())), ("o-", "s-", "x--", "+:")):
        colour = {"ours": "tab:blue", "ours, prepared": "tab:blue", "ours, as built": "tab:cyan"}.get(kind, "tab:grey")
        axes.plot(
            [int(at) for at in values], [rows[kind][key] for rows in values.values()], style, label=kind, color=colour
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([int(at) for at in values], list(values))
    axes.legend(fontsize=8, frameon=False)
    _dress(axes, title)


def _dress(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
