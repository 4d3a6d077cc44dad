"""What a config builds, part by part: shapes, receptive fields, parameters, cost."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .parser import CommandError, add_config_arguments, add_format_arguments, file_name, pixels, read_config
from .table import Table, print_json, print_table
from .text import by_count, extent, giga, human

if TYPE_CHECKING:
    from ..analysis import PartReport, Report
    from .features import Features

DEFAULT_SIZE = (224, 224)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit shapes`."""
    add_config_arguments(parser)
    parser.add_argument("--at", metavar="KEY", help="where the backbone is, in an unusual place: model.backbone.body")
    parser.add_argument(
        "--input-size",
        nargs=2,
        type=pixels,
        metavar=("H", "W"),
        help="pixels (default: 224 224, or the picture's own)",
    )
    for option, text in {
        "--image": "a picture, for a real forward with the config's preprocessing",
        "--weights": "with --image: a checkpoint; 'config' for what the config names",
        "--plot": "with --image: save the picture and a heat map per level (.png)",
    }.items():
        parser.add_argument(option, type=file_name, metavar="FILE", help=text)
    add_format_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the table; with `--image` also what came out of a real forward."""
    for option in ("weights", "plot"):
        if getattr(args, option) and not args.image:
            raise CommandError(f"--{option} needs --image")
    config = read_config(args)
    features = None
    if args.image:
        from .features import compute_features
        from .heatmap import check_target, save_heatmaps

        if args.plot:
            check_target(args.plot, picture=args.image)
        features = compute_features(config, args.image, args.input_size, at=args.at, weights=args.weights)
        if args.plot:
            save_heatmaps(features, args.plot)
        name, report = type(features.model).__name__, features.report
    else:
        from .prediction import predict

        name, report = predict(config, tuple(args.input_size or DEFAULT_SIZE), at=args.at)
    if args.json:
        print_json(as_json(args.config, name, report, features))
    else:
        _print(args, name, report, features)
    return 0


def as_json(config: str, name: str, report: Report, features: Features | None) -> dict[str, Any]:
    """Everything with raw numbers; an unbounded receptive field is the word 'unbounded'."""
    value = {"config": config, "backbone": name, **asdict(report), "flops": 2 * report.macs}
    for part in value["parts"]:
        part.update(part.pop("contents"))
        field = part["receptive_field"]
        part["receptive_field"] = "unbounded" if field and math.inf in field else field
    value.update(value.pop("contents"))
    return {**value, "image": features.as_json()} if features else value


def _print(args: argparse.Namespace, name: str, report: Report, features: Features | None) -> None:
    print(f"{name} from {args.config}, input {'x'.join(map(str, report.input_shape))}\n")
    table = table_of(report)
    print_table(table, markdown=args.markdown)
    for line in _notes(report, table.width()):
        print(f"\n{line}")
    if features:
        print(f"\n{features.caption()}\n")
        print_table(features.table(), markdown=args.markdown)


COLUMNS = (
    "part",
    *(">blocks", ">out", ">chan.", ">stride", ">HxW", ">dil.", ">field"),
    *("frozen", "deformable", "plugins"),
    *(">params", ">trained", ">GMACs", ">memory"),
)


def table_of(report: Report) -> Table:
    """One row a part."""
    whole = report.contents
    total = ["total", *[""] * 10, human(whole.parameters), human(whole.trainable)]
    total += [giga(report.macs), human(report.activation_bytes, "B", 3)]
    return Table(COLUMNS, [_row(part) for part in report.parts], total)


def _row(part: PartReport) -> list[str]:
    held = part.contents
    reached = part.channels is not None
    return [
        part.name,
        str(part.blocks or ""),
        "" if part.out_index is None else str(part.out_index),
        str(part.channels or ""),
        str(part.stride or ""),
        "x".join(map(str, part.size or ())) if reached else "not run",
        ",".join(str(d) for d in held.dilations),
        extent(part.receptive_field),
        held.frozen,
        by_count(held.deformable),
        by_count(held.plugins),
        human(held.parameters),
        human(held.trainable),
        giga(part.macs),
        human(part.activation_bytes, "B", 3),
    ]


def _notes(report: Report, width: int) -> list[str]:
    notes = [
        f"{giga(2 * report.macs)} GFLOPs, two a MAC; dil.: dilations; field: theoretical receptive field in pixels;\n"
        "memory: all tensors made in one forward, in float32; trained: parameters with a gradient"
    ]
    if report.light_ops:
        notes.append(_wrapped("no MACs in:", report.light_ops, width))
    if report.uncounted_ops:
        notes.append(_wrapped("NOT COUNTED, no formula:", report.uncounted_ops, width))
    return notes


def _wrapped(heading: str, counts: Mapping[str, int], width: int) -> str:
    words = [heading, *(f"{by_count({name: count})}," for name, count in counts.items())]
    joined = " ".join(word.replace(" ", "\0") for word in words)  # a name and its count share a line
    return textwrap.fill(joined, width, break_long_words=False).replace("\0", " ").removesuffix(",")
