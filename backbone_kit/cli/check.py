"""Which config files build, and what is wrong with the others."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import asdict

from .parser import CommandError, add_format_arguments
from .table import Table, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit check`."""
    parser.add_argument(
        "files", nargs="+", help="config files, folders (searched to any depth), or patterns: 'configs/**/*r50*.py'"
    )
    add_format_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one row a file; 1 if any failed."""
    from .verdict import Checker, find_files

    found = find_files(args.files)
    if not found:
        raise CommandError(f"no config files in {', '.join(args.files)}")
    start = time.perf_counter()
    checker = Checker()
    verdicts = [checker.check(path, named=named) for path, named in found]
    counts = Counter(verdict.result for verdict in verdicts)
    if args.json:
        print_json({"files": [asdict(verdict) for verdict in verdicts], "counts": dict(counts)})
        return int(counts["failed"] > 0)
    rows = [(v.file, v.backbone, v.neck, v.weights, v.result) for v in verdicts]
    print_table(Table(("file", "backbone", "neck", "weights", "result"), rows), markdown=args.markdown)
    problems = [(verdict.file, problem) for verdict in verdicts for problem in verdict.problems]
    if problems:
        print()
    for file, problem in problems:
        text = problem if problem.startswith(file) else f"{file}: {problem}"
        print(f"- {text}" if args.markdown else text)
    parts = [f"{counts[result]} {words}" for result, words in SUMMARY.items() if counts[result]]
    print(f"\n{len(verdicts)} files in {time.perf_counter() - start:.1f} s: {', '.join(parts)}")
    return int(counts["failed"] > 0)


SUMMARY = {"ok": "build", "failed": "failed", "no backbone": "without a backbone"}
