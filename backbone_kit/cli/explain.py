"""Where a value of a config comes from: its file and line, and what it replaced."""

from __future__ import annotations

import argparse

from .parser import add_config_arguments, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit explain`."""
    add_config_arguments(parser)
    parser.add_argument("key", help="with dots and indices: model.backbone.depth")


def run(args: argparse.Namespace) -> int:
    """Prints the origin of one key."""
    print(read_config(args).explain(args.key))
    return 0
