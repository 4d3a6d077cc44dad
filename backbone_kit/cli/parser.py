"""The argument parser of all commands and what several of them take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..config import Config


MOST_PIXELS = 1_000_000  # along an axis; beyond, sizes in bytes leave an int64


class CommandError(Exception):
    """A command cannot do its work; the message is all that the user sees."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage; takes no abbreviated options."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises CommandError in place of leaving the process."""
        raise CommandError(f"{message}; see {self.prog} --help")


def pixels(text: str) -> int:
    """An extent of a picture, as an argument's type."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive int, got {text!r:.50}")
    if value > MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"must be at most {MOST_PIXELS} pixels, got {text!r:.50}")
    return value


def file_name(text: str) -> str:
    """The name of a file, as an argument's type."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file, got ''")
    return text


def override(text: str) -> tuple[str, Any]:
    """A dotted key and its value, as an argument's type."""
    from ..config import parse_override

    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r:.100} is no KEY=VALUE; put the config file first")
    try:
        return parse_override(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The config file and changes to it."""
    parser.add_argument("config", help="a config file (.yaml, .json, .py), or a model name")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        type=override,
        default=[],
        metavar="KEY=VALUE",
        help="values in place of the file's: model.backbone.depth=101",
    )


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """What the output is for: eyes, programs or documents."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="raw numbers as JSON")
    group.add_argument("--markdown", action="store_true", help="a Markdown table")


def read_config(args: argparse.Namespace) -> Config:
    """The config that the arguments name, with the changes they ask for."""
    from ..config import Config
    from ..names import NAMED, is_name, named_config

    if is_name(args.config):
        config = named_config(args.config)
        config.merge_from_dict(NAMED, source=f"the name {args.config}")
    else:
        config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(dict(args.cfg_options), source="--cfg-options")
    return config
