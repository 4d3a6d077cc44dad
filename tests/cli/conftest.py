"""Runs a command in this process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from backbone_kit.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*argv: object) -> Result:
        code = main([str(argument) for argument in argv])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def config(tmp_path):
    """Writes a config file and returns its path."""

    def write(text: str = "type: ResNet\ndepth: 18\nfrozen_stages: 1\n", name: str = "net.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write
