"""The figures as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def markdown(report: dict[str, Any]) -> str:
    about = report["machine"]
    lines = [
        "# ResNet-50, side by side",
        "",
        f"{about['processor']} ({about['instructions']}), threads: {about['threads']}, load when it began: "
        f"{about['load']}; torch {about['torch']}, torchvision {about['torchvision']}, timm {about['timm']}. "
        f"Medians of {report['rounds']} interleaved rounds; ratios are of processor time, within a round. "
        "Made by `python -m benchmarks`.",
        "",
        "## Inference, 1×3×512×512, float32 where nothing else is said",
        "",
        "| | seconds | processor seconds | of the first |",
        "| --- | --: | --: | --: |",
    ]
    for name, row in report["inference"].items():
        lines.append(f"| {name} | {_times(row)} |")
    lines += [
        "",
        "## A step of fine-tuning, 2×3×512×512, stem and first stage frozen, norms in eval",
        "",
        "| | seconds | processor seconds | of the first | kept for backward, MiB | peak, MiB |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name, row in report["fine-tuning"].items():
        lines.append(f"| {name} | {_times(row)} | {row['kept MiB']:.1f} | {row['peak MiB']:.0f} |")
    lines += ["", "## Starting", "", "| | seconds |", "| --- | --: |"]
    lines += [f"| {name} | {value:.3f} |" for name, value in report["starting"].items()]
    return "\n".join(lines) + "\n"


def _times(row: dict[str, float]) -> str:
    return f"{row['seconds']:.3f} | {row['processor']:.3f} | {row['times the first']:.2f}"


def plot(report: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = [("inference", "processor", "inference, processor s")]
    panels.append(("fine-tuning", "processor", "fine-tuning step, processor s"))
    panels.append(("fine-tuning", "kept MiB", "kept for backward, MiB"))
    for axes, (part, key, title) in zip(figure.subplots(1, 3), panels):
        rows = report[part]
        colours = ["tab:blue" if name.startswith("ours") else "tab:grey" for name in rows]
        bars = axes.barh(list(rows), [row[key] for row in rows.values()], color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(path))
