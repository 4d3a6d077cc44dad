"""What is wrong with a run of `examples/train_distributed.py` is one message, before any process is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from examples import train_distributed

SMALL = "{type: ResNet, depth: 10, base_channels: 8, stem_channels: 8, norm_eval: false}"

Fail = Callable[..., str]


@pytest.fixture(name="argv")
def _argv(tmp_path: Path) -> Iterator[list[str]]:
    """Of a run of one step in `tmp_path / "run"`; its process group is gone afterwards."""
    (tmp_path / "net.yaml").write_text(SMALL)
    data = ["--steps", "1", "--batch", "2", "--size", "64", "--backend", "gloo"]
    yield ["--cfg", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "run"), *data]
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(name="fail")
def _fail(argv: list[str], capsys: pytest.CaptureFixture[str]) -> Fail:
    """`fail(*options)`: what the run says when it ends with exit code 2."""

    def fail(*options: str) -> str:
        capsys.readouterr()
        assert train_distributed.main([*argv, *options]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return fail


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--cfg", "nope", "'nope' is neither a file nor a model name; list_backbones() has them all"),
        ("--frozen-stages", "9", "must be from -1, nothing, to 4, all, got 9"),
        ("--steps", "-1", "must be 0 or more, got -1"),
        ("--batch", "3", "must be over 0, a multiple of the 2 processes, got 3"),
        ("--batch", "0", "must be over 0, a multiple of the 2 processes, got 0"),
        ("--size", "0", "must be 1 or more, got 0"),
        ("--lr", "-1", "must be over 0 and finite, got -1.0"),
        ("--layer-decay", "2", "must be over 0 and up to 1, got 2.0"),
        ("--save-every", "0", "must be 1 or more, got 0"),
        ("--seed", "1" + "0" * 23, f"must be from 0 to {2**62 - 1}, got 1{'0' * 23}"),
        ("--backend", "nccl", "must be gloo where fewer GPUs are than processes, 1 for 2, got nccl"),
    ],
)
def test_a_wrong_argument_is_one_message(fail: Fail, monkeypatch, tmp_path: Path, option, value, reason) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert fail(option, value) == f"error: {option}: {reason}\n"
    assert not dist.is_initialized()
    assert not (tmp_path / "run").exists()


def test_all_that_is_wrong_is_said_at_once(fail: Fail) -> None:
    said = fail("--size", "0", "--lr", "0")
    assert [line.split(":")[0].strip() for line in said.splitlines()[1:]] == ["--size", "--lr"]


def test_a_net_that_takes_no_colours_is_refused(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(SMALL.replace("depth: 10", "depth: 10, in_channels: 1"))
    assert fail() == "error: --cfg.in_channels: must take 3, as the pictures have colours, got 1\n"


def test_a_folder_that_is_a_file_is_refused(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    assert fail().startswith(f"error: --out: must be a folder, got '{tmp_path / 'run'}': ")
    assert (tmp_path / "run").read_text() == "mine"


def test_weights_that_cannot_be_loaded_are_refused(fail: Fail, tmp_path: Path) -> None:
    assert fail("--pretrained", "nope.pth") == "error: nope.pth: no such file\n"
    torch.save({"conv": torch.ones(1)}, tmp_path / "other.pth")
    assert "serves 0 of the model's" in fail("--pretrained", str(tmp_path / "other.pth"))
    assert not dist.is_initialized()


def test_a_machine_says_it_once(argv: list[str], fail: Fail, monkeypatch, capsys) -> None:
    """torchrun ends all processes of a machine with the first that fails: the others let that one speak."""

    def ended(seconds: float) -> None:
        raise InterruptedError

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(time, "sleep", ended)
    with pytest.raises(InterruptedError):
        train_distributed.main([*argv, "--size", "0"])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert fail("--size", "0") == "error: --size: must be 1 or more, got 0\n"


def test_runs_are_not_mixed(argv: list[str], fail: Fail, tmp_path: Path) -> None:
    assert train_distributed.main(argv) == 0
    run = tmp_path / "run"
    cure = "pass that, or choose another --out"
    assert fail("--frozen-stages", "1") == f"error: --frozen-stages: is 1, the run in {run} has -1; {cure}\n"
    assert fail("--layer-decay", "0.5") == f"error: --layer-decay: is 0.5, the run in {run} has 1.0; {cure}\n"
    said = fail("--cfg", "resnet18")
    assert said.startswith(f"error: --cfg: is 'resnet18', the run in {run} has {{'type': 'ResNet', 'depth': 10, ")
    (tmp_path / "net.yaml").write_text(SMALL.replace("depth: 10", "depth: 14"))
    assert "'depth': 14" in fail()
    (tmp_path / "net.yaml").rename(tmp_path / "moved.yaml")
    (tmp_path / "moved.yaml").write_text(SMALL)
    assert train_distributed.main([*argv, "--cfg", str(tmp_path / "moved.yaml"), "--steps", "2"]) == 0
    assert (run / "newest").read_text() == "2"


@pytest.mark.parametrize("name", ["newest", "step1/run.json", "step1/.metadata"])
def test_a_damaged_checkpoint_is_said_to_be_one(argv: list[str], capsys, tmp_path: Path, name: str) -> None:
    assert train_distributed.main(argv) == 0
    (tmp_path / "run" / name).write_bytes(b"damaged")
    capsys.readouterr()
    assert train_distributed.main([*argv, "--steps", "2"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'run'}: its newest checkpoint cannot be read (")
    assert said.endswith("); choose another --out\n")
