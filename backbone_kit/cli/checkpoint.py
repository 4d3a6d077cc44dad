"""What a checkpoint holds, in another layout, or against another one."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .parser import CommandError, file_name
from .table import Table, print_table
from .text import human

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoint import Checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit checkpoint`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, function, summary in (
        ("inspect", inspect, "what a file holds, and whether it fits a config"),
        ("convert", convert, "a file in another layout"),
        ("diff", diff, "where two files differ, whatever their layouts"),
    ):
        sub = actions.add_parser(action, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        sub.set_defaults(do=function)
        sub.add_argument("file", type=file_name, help="a checkpoint")
        if action == "convert":
            sub.add_argument("output", type=file_name, help="a new .safetensors or .pth file")
            sub.add_argument("--to", required=True, metavar="LAYOUT", help="mmdet is this library's own")
            sub.add_argument(
                "--drop", nargs="+", action="extend", default=[], metavar="PATTERN", help="keys to leave out"
            )
        if action == "diff":
            sub.add_argument("other", type=file_name, help="another checkpoint")
            sub.add_argument("--tolerance", type=float, default=0.0, help="how far values may differ (default 0)")
        if action == "inspect":
            sub.add_argument("--config", help="a config file, or a model name")
        else:
            sub.add_argument("--from", dest="layout", default="auto", metavar="LAYOUT", help="(default: by its keys)")
        sub.add_argument("--prefix", help="what stands before the backbone's keys, where two parts fit")
        sub.add_argument("--ema", action="store_true", help="the weights averaged over training")


def run(args: argparse.Namespace) -> int:
    """Does what was asked; 1 where a file does not fit, or two differ."""
    code: int = args.do(args)
    return code


def inspect(args: argparse.Namespace) -> int:
    """Prints what a file holds, and how it would load into a config's backbone."""
    from ..checkpoint import read_checkpoint
    from ..checkpoint.convert import find_reading
    from ..errors import CheckpointError

    checkpoint = read_checkpoint(args.file, ema=args.ema)
    size = sum(value.numel() * value.element_size() for value in checkpoint.tensors.values())
    values = sum(value.numel() for value in checkpoint.tensors.values())
    where = f" in {checkpoint.container!r}" if checkpoint.container else ""
    print(f"{checkpoint.name}: {len(checkpoint.tensors)} tensors{where}, {human(values)} values, {human(size, 'B', 3)}")
    prefix = ""
    try:
        reading = find_reading(checkpoint.tensors, prefix=_dotted(args.prefix))
    except CheckpointError as error:
        print(f"layout: none; it {error}")
    else:
        prefix = reading.prefix
        behind = f", behind {prefix!r}" if prefix else ""
        print(f"layout: {reading.layout.name}, {reading.table.family}{behind}")
    if checkpoint.left_aside:
        print(f"not read: {', '.join(checkpoint.left_aside)}")
    if checkpoint.inert:
        print(f"objects that were not made: {', '.join(checkpoint.inert)}")
    print()
    print_table(_parts(checkpoint, prefix))
    return _fits(args) if args.config else 0


def _parts(checkpoint: Checkpoint, prefix: str) -> Table:
    groups: dict[str, list[Tensor]] = defaultdict(list)
    for key, value in checkpoint.tensors.items():
        start = prefix if key.startswith(prefix) else ""
        inside = key[len(start) :]
        groups[start + inside.partition("." if "." in inside else "_")[0]].append(value)  # Caffe2's names are flat
    rows = [
        (
            part,
            str(len(tensors)),
            human(sum(tensor.numel() for tensor in tensors)),
            ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        )
        for part, tensors in groups.items()
    ]
    return Table(("part", ">keys", ">values", "types"), rows)


def _fits(args: argparse.Namespace) -> int:
    import torch

    from ..backbones import build_backbone
    from ..checkpoint.load import examine
    from ..checkpoint.refuse import refusal

    with torch.device("meta"):
        model = build_backbone(args.config)
    report, _, weights = examine(model, args.file, prefix=args.prefix, ema=args.ema)
    reason = refusal(report, model.state_dict(), strict=True, there=list(weights))
    print(f"\ninto {type(model).__name__} from {args.config}:\n{report.details()}")
    if reason:
        print(f"refused: {reason}")
    return int(bool(reason))


def convert(args: argparse.Namespace) -> int:
    """Writes a file in another layout."""
    from ..checkpoint import convert_state_dict, read_checkpoint
    from ..checkpoint.save import save_state_dict

    if os.path.exists(args.output):
        raise CommandError(f"{args.output}: is there already; a checkpoint is not overwritten")
    tensors = read_checkpoint(args.file, ema=args.ema).tensors
    kept = {key: value for key, value in tensors.items() if not any(fnmatchcase(key, p) for p in args.drop)}
    converted = convert_state_dict(kept, args.layout, args.to, args.prefix)
    save_state_dict(converted, args.output)
    dropped = f", {len(tensors) - len(kept)} dropped" if len(kept) < len(tensors) else ""
    aside = f", {len(kept) - len(converted)} left aside" if len(converted) < len(kept) else ""
    print(f"{args.output}: {len(converted)} keys in {args.to}'s layout{dropped}{aside}")
    return 0


def diff(args: argparse.Namespace) -> int:
    """Prints where two files differ, by our names where both have a layout."""
    from ..checkpoint import read_checkpoint
    from ..checkpoint.compare import compare

    files = [read_checkpoint(path, ema=args.ema) for path in (args.file, args.other)]
    first, second = (_ours(file, args) for file in files)
    result = compare(first, second)
    far = {key: value for key, value in result.values.items() if not value <= args.tolerance}
    for title, keys in (
        (f"only in {files[0].name}", result.only_first),
        (f"only in {files[1].name}", result.only_second),
        ("other shapes", [f"{key} {a} {b}" for key, (a, b) in result.shapes.items()]),
        ("other values", [f"{key} by {value:.3g}" for key, value in far.items()]),
    ):
        if keys:
            print(f"{title}: {len(keys)}")
            print("".join(f"  {key}\n" for key in keys), end="")
    print(f"{len(result.equal)} equal, {len(result.values) - len(far)} within {args.tolerance:g}")
    return int(bool(far or result.shapes or result.only_first or result.only_second))


def _ours(file: Checkpoint, args: argparse.Namespace) -> Mapping[str, Tensor]:
    """A file's tensors by our names, or by its own where it has no layout."""
    from ..checkpoint.convert import find_reading
    from ..errors import CheckpointError

    try:
        reading = find_reading(file.tensors, args.layout, _dotted(args.prefix))
    except CheckpointError:
        return file.tensors
    return {**reading.tensors(file.tensors), **{key: file.tensors[key] for key in reading.rest}}


def _dotted(prefix: str | None) -> str | None:
    return f"{prefix}." if prefix and not prefix.endswith(".") else prefix
