"""The `backbone-kit` command. Each subcommand is a module here, with `add_arguments(parser)` and `run(args) -> int`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from ..errors import CheckpointError, ConfigError
from . import check, checkpoint, env, explain, export, listing, shapes
from .parser import CommandError, Parser

COMMANDS = {
    "shapes": shapes,
    "check": check,
    "list": listing,
    "explain": explain,
    "checkpoint": checkpoint,
    "export": export,
    "env": env,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The command and its arguments; None means those of the process.

    Returns:
        The exit code: 0, 1 where a command found something wrong, 2 where it could not do its work. What the user did
        wrong is one message on stderr, never a traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a file's name, or a character that the terminal does not have
    parser = Parser(prog="backbone-kit", description="Detection backbones from a config.")
    parser.add_argument("--version", action="version", version=f"backbone-kit {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(subparsers.add_parser(name, help=summary, description=summary))
    try:
        args = parser.parse_args(argv)
        code: int = COMMANDS[args.command].run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has gone, as `head` does; keep the interpreter from flushing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigError, CheckpointError, CommandError, ImportError) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    print(f"backbone-kit: error: {message}", file=sys.stderr)
    return 2
