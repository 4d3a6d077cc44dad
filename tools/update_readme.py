"""Runs the blocks of README.md and writes what they print; `tests/test_readme.py` checks that nothing changes.

A `python` block is executed, and what it prints stands in the `text` block behind it. In a `console` block, each line
that begins with `$` is a command, and what it prints follows.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def updated(text: str) -> str:
    """The same page with what its blocks print now, run from a folder that looks like the checkout's."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("configs", "examples", "tools"):
            Path(folder, name).symlink_to(ROOT / name)
        before = os.getcwd()
        os.chdir(folder)
        try:
            return BLOCK.sub(_rerun, text)
        finally:
            os.chdir(before)


def _rerun(block: re.Match[str]) -> str:
    kind, code, shown = block.groups()
    if kind == "console":
        return f"```console\n{''.join(map(_command, re.findall(r'^[$] (.*)$', code, re.MULTILINE)))}```\n"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    output = f"\n```text\n{printed.getvalue()}```\n" if shown is not None or printed.getvalue() else ""
    return f"```python\n{code}```\n{output}"


def _command(line: str) -> str:
    words = shlex.split(line)
    program = {"python": [sys.executable], "backbone-kit": [sys.executable, "-m", "backbone_kit.cli"]}[words[0]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*program, *words[1:]], capture_output=True, text=True, check=True, env=environment)
    return f"$ {line}\n{done.stdout.rstrip()}\n"


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(updated(page.read_text()))
