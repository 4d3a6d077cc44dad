"""A config's backbone as a file for another runtime: ONNX, OpenVINO, torch.export, AOTInductor."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, Problem
from .parser import CommandError, add_config_arguments, add_format_arguments, file_name, pixels, read_config
from .table import Table, print_json, print_table
from .text import human

if TYPE_CHECKING:
    from ..export import Difference, Exported

FORMATS = ("onnx", "openvino", "export", "aoti")  # of backbone_kit.export, which imports torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit export`."""
    add_config_arguments(parser)
    parser.add_argument("--at", metavar="KEY", help="where the backbone is, in an unusual place: model.backbone.body")
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="export: for torch.export.load; aoti: compiled by AOTInductor"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=file_name,
        metavar="FILE",
        help="the new file, .onnx, .xml (with a .bin) or .pt2; one that is there is replaced by a whole one",
    )
    parser.add_argument(
        "--weights", type=file_name, metavar="FILE", help="a checkpoint; 'config' for what the config names"
    )
    parser.add_argument(
        "--input-size",
        nargs=2,
        type=pixels,
        default=(224, 224),
        metavar=("H", "W"),
        help="pixels of the pictures that it is traced and checked with (default: 224 224)",
    )
    parser.add_argument(
        "--batch", type=_count, metavar="N", help="how many of them (default: 1 if fixed, else 2, which is the least)"
    )
    parser.add_argument(
        "--fixed",
        nargs="*",
        choices=("batch", "size"),
        help="take only this batch, or only this size, or neither another batch nor another size (default: any)",
    )
    parser.add_argument(
        "--smallest",
        type=pixels,
        metavar="PIXELS",
        help="least H and W of any size, more than the largest stride (default: twice that)",
    )
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="(default: float32)")
    parser.add_argument("--opset", type=_count, metavar="N", help="version of ONNX's operators")
    parser.add_argument(
        "--with-preprocess", action="store_true", help="take uint8 RGB pixels, and normalise them as the config says"
    )
    parser.add_argument("--check", action="store_true", help="run the file beside eager; exit with 1 if they differ")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="X",
        help="with --check: of a map's largest value (default: 1e-4, float16: 0.02)",
    )
    add_format_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the file and prints what it takes and gives; with `--check` also how far its maps are off."""
    if args.tolerance is not None and not args.check:
        raise CommandError("--tolerance needs --check")
    config = read_config(args)
    import torch

    from .. import Preprocessing
    from ..export import check_export, export_backbone
    from ..export.backbone import check_request
    from .preprocessing import find_preprocessing
    from .weights import build_with_weights

    options: dict[str, Any] = dict(
        size=args.input_size,
        batch=args.batch,
        fixed=() if args.fixed is None else args.fixed or ("batch", "size"),
        smallest=args.smallest,
        opset=args.opset,
    )
    found = find_preprocessing(config) if args.with_preprocess else None
    with _named_as_options():
        check_request(Path(args.output), args.format, **options)
    backbone, weights = build_with_weights(config, at=args.at, weights=args.weights)
    with _named_as_options():
        exported = export_backbone(
            backbone.to(getattr(torch, args.dtype)),
            args.output,
            args.format,
            preprocessing=found and Preprocessing(found.mean, found.std, found.channel_order),  # type: ignore[arg-type]
            **options,
        )
        rows = check_export(exported, tolerance=args.tolerance) if args.check else []
    facts = {
        "config": args.config,
        "backbone": type(backbone).__name__,
        "weights": weights,
        "images": f"RGB pixels from 0 to 255, normalised inside:\n{found}" if found else "as the backbone takes them",
    }
    if args.json:
        print_json({**facts, **_as_json(exported, rows)})
    else:
        _print(facts, exported, rows, markdown=args.markdown)
    return int(not all(row.passes for row in rows))


OPTIONS = {"path": "output", "size": "input-size", "preprocessing": "with-preprocess"}  # of other names than arguments


@contextmanager
def _named_as_options() -> Iterator[None]:
    """Errors of an export as a command's, with the options that the user wrote."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_of_option(problem) for problem in error.problems]) from error
    except RuntimeError as error:
        raise CommandError(str(error)) from error


def _of_option(problem: Problem) -> Problem:
    if not problem.path:
        return problem
    argument, *inner = problem.path
    return replace(problem, path=(f"--{OPTIONS.get(str(argument), argument)}", *inner))


def _tolerance(text: str) -> float:
    """A finite number from 0 on, as an argument's type."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number from 0 on, got {text!r:.50}")
    return value


def _count(text: str) -> int:
    """A positive number, as an argument's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive int, got {text!r:.50}")
    return int(text)


def _print(facts: Mapping[str, str], exported: Exported, rows: list[Difference], *, markdown: bool) -> None:
    print(f"{facts['backbone']} from {facts['config']}, weights {facts['weights']}")
    print(", ".join(f"{file} ({human(file.stat().st_size, 'B', 3)})" for file in exported.files) + "\n")
    ports = [(p.name, str(p.dtype).removeprefix("torch."), _by(p.shape)) for p in (exported.images, *exported.maps)]
    print_table(Table(("name", "type", "shape"), ports), markdown=markdown)
    print(f"\nimages: {facts['images']}")
    if exported.smallest is not None:
        print(f"H and W: from {exported.smallest}")
    if rows:
        cells = [
            (row.name, _by(row.images), _by(row.shape), f"{row.largest:.2e}", f"{row.relative:.1e}", _verdict(row))
            for row in rows
        ]
        print(f"\nchecked in {_runtime(exported)} against eager; relative: to the map's largest value\n")
        columns = ("map", ">images", ">shape", ">largest difference", ">relative", "")
        print_table(Table(columns, cells), markdown=markdown)


def _as_json(exported: Exported, rows: list[Difference]) -> dict[str, Any]:
    ports = {
        port.name: {"dtype": str(port.dtype).removeprefix("torch."), "shape": port.shape}
        for port in (exported.images, *exported.maps)
    }
    check = [
        {
            "map": row.name,
            "images": row.images,
            "shape": row.shape,
            "largest": _finite(row.largest),
            "relative": _finite(row.relative),
            "passes": row.passes,
        }
        for row in rows
    ]
    return {
        "format": exported.format,
        "files": {str(file): file.stat().st_size for file in exported.files},
        "ports": ports,
        "smallest": exported.smallest,
        "runtime": _runtime(exported) if rows else None,
        "check": check,
    }


def _runtime(exported: Exported) -> str:
    from ..export.formats import FORMATS

    package = FORMATS[exported.format].runtime
    return f"{package} {version(package)}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _verdict(row: Difference) -> str:
    return "" if row.passes else f"more than {row.tolerance:g}"


def _by(shape: tuple[int | str, ...]) -> str:
    return " x ".join(map(str, shape))
