"""README does what it says: its blocks run, and print what it shows."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backbone_kit import BACKBONES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_blocks_print_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "tools" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(BACKBONES, "_entries", dict(BACKBONES._entries))  # one block registers a class
    now = tool.updated(README)
    assert len(now.split()) == len(README.split())
    for word, shown in zip(now.split(), README.split()):
        assert word == shown or _number(word) == pytest.approx(_number(shown), rel=2e-3), (word, shown)


def _number(word: str) -> float:
    """A figure of a real forward, whose last digit is the processor's; nan for any other word."""
    return float(word.removesuffix("%")) if re.fullmatch(r"-?\d+\.\d+%?", word) else math.nan


def test_make_shapes_runs_the_command_that_is_shown() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "--dry-run", "--always-make", "shapes"]
    commands = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (shown,) = re.findall(r"^\$ python (.*--image.*)$", README, re.MULTILINE)
    assert commands.stdout.splitlines()[-1].endswith(f"python {shown}")


def test_every_command_is_in_the_table() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "backbone_kit.cli", "--help"], capture_output=True, text=True
    ).stdout
    commands = re.findall(r"^    (\w+) ", help_text, re.MULTILINE)
    assert commands
    assert all(f"backbone-kit {command}" in README for command in commands)


def test_local_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 2
    assert all((ROOT / link).exists() for link in links)
