"""What `examples/train_distributed.py` says: a run that is killed goes on, and ends where it would have ended."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.nn.modules.batchnorm import SyncBatchNorm

from backbone_kit.distributed import whole_parameters
from examples import train_distributed

from .conftest import WORLD, Run

ROOT = Path(__file__).parents[2]
SMALL = "{type: ResNet, depth: 18, base_channels: 8, stem_channels: 8, norm_eval: false, out_indices: [2]}"
STEPS = 5

KILLED = """
import os, signal
from torch.optim.optimizer import register_optimizer_step_pre_hook
from examples import train_distributed

steps = []

def die_in_the_third_step(*_):
    steps.append(1)
    if len(steps) == 3 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_pre_hook(die_in_the_third_step)
raise SystemExit(train_distributed.main())
"""

pytestmark = pytest.mark.slow


def arguments(folder: Path) -> list[str]:
    """Of a short run that leaves its checkpoints in a folder."""
    (folder / "net.yaml").write_text(SMALL)
    data = ["--steps", str(STEPS), "--batch", "4", "--size", "32"]
    options = ["--frozen-stages", "1", "--layer-decay", "0.9", "--backend", "gloo"]
    return ["--cfg", str(folder / "net.yaml"), "--out", str(folder), *data, *options]


def ended(argv: list[str]) -> dict[str, Tensor]:
    """What a run ends with."""
    model = train_distributed.train(train_distributed.arguments(argv))
    with whole_parameters(model):
        return {name: value.clone() for name, value in model.state_dict().items()}


def broken_off(argv: list[str], within: str) -> None:
    """A run that ends in its third step, or when its third checkpoint is written, but is not yet the newest."""
    step, save = torch.optim.AdamW.step, dcp.save
    calls = []

    def third(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if within == "save":
            save(*args, **kwargs)
        if len(calls) == 3:
            raise InterruptedError
        if within == "step":
            step(*args, **kwargs)

    target = torch.optim.AdamW if within == "step" else dcp
    with patch.object(target, within, third), pytest.raises(InterruptedError):
        train_distributed.train(train_distributed.arguments(argv))


@pytest.fixture(scope="module", name="unbroken")
def _unbroken(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Tensor]]:
    @functools.cache
    def unbroken(*options: str) -> dict[str, Tensor]:
        folder = tmp_path_factory.mktemp("unbroken")
        return run(ended, [*arguments(folder), *options])[0]

    return unbroken


@pytest.mark.parametrize("within", ["step", "save"])
def test_a_run_goes_on_as_if_it_had_not_broken_off(run: Run, unbroken, tmp_path: Path, within: str) -> None:
    run(broken_off, arguments(tmp_path), within)
    assert (tmp_path / "newest").read_text() == "2"
    for state in run(ended, arguments(tmp_path)):
        torch.testing.assert_close(state, unbroken(), rtol=0, atol=0)


def test_a_killed_run_loses_nothing_but_the_step(run: Run, unbroken, tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"]
    command = [*torchrun, "--nproc-per-node", str(WORLD), str(tmp_path / "killed.py"), *arguments(tmp_path), "--fsdp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    starts = [line for line in done.stdout.splitlines() if "processes" in line]
    assert starts == [f"{WORLD} processes, from step {step}" for step in (0, 2)]
    assert [path.name for path in tmp_path.glob("step*")] == [f"step{STEPS}"]
    for state in run(ended, [*arguments(tmp_path), "--fsdp"]):  # reads what is there
        torch.testing.assert_close(state, unbroken("--fsdp"), rtol=0, atol=0)


def test_statistics_are_synchronised_on_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, as far as that goes: the norms are exchanged before anything has memory."""
    args = train_distributed.arguments(arguments(tmp_path))
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda self, device: self)
    model = train_distributed.build(args, torch.device("cuda"))
    assert isinstance(model.backbone.layer2[0].bn1, SyncBatchNorm)
