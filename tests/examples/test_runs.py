"""Short runs of the examples: they learn, and go on after a break as if there had been none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from detect import DETECTORS
from evaluation import box_ap, mean_iou
from run import main
from segment import HEADS
from shapes_data import Shapes, ShapesConfig

from backbone_kit import Config, build_backbone

from .conftest import EXAMPLES

DETECT = ("detector", DETECTORS, box_ap)
SEGMENT = ("head", HEADS, mean_iou)
FEW = ["data.val_pictures=4", "data.test_pictures=4", "data.size=64", "training.batch_size=2"]


def run(example: tuple, cfg: str, folder: Path, *options: str, resume: bool = False) -> int:
    argv = ["--cfg", str(EXAMPLES / "configs" / cfg), "--work-dir", str(folder), "--device", "cpu"]
    return main(*example, [*argv, *["--resume"] * resume, "--cfg-options", *FEW, *options])


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pth", weights_only=True)


def tensors(state: Any) -> list[torch.Tensor]:
    """All tensors in dicts and lists."""
    items = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [state] if isinstance(state, torch.Tensor) else [tensor for item in items for tensor in tensors(item)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "cfg"),
    [(DETECT, "faster_rcnn_resnet.yaml"), (SEGMENT, "deeplabv3_ghostnet.yaml")],
    ids=["detect", "segment"],
)  # one samples boxes, the other has dropout
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(example, cfg, tmp_path, monkeypatch, capsys) -> None:
    steps = ["training.steps=5", "training.val_every=2"]
    assert run(example, cfg, tmp_path / "whole", *steps) == 0
    calls = []
    true_step = training.train_step

    def stopped_step(*args: Any) -> float:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return true_step(*args)

    monkeypatch.setattr(training, "train_step", stopped_step)
    assert run(example, cfg, tmp_path / "broken", *steps) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert last(tmp_path / "broken")["history"][-1]["step"] == 2
    torch.manual_seed(5)  # another process, other numbers
    assert run(example, cfg, tmp_path / "broken", *steps, resume=True) == 0
    assert len(calls) == 4 + 3
    whole, broken = last(tmp_path / "whole"), last(tmp_path / "broken")
    assert len(tensors(whole)) == len(tensors(broken)) > 100
    assert all(map(torch.equal, tensors(whole), tensors(broken)))
    assert str(whole["history"]) == str(broken["history"])  # with a nan in it
    pictures = [(tmp_path / name / "predictions.png").read_bytes() for name in ("whole", "broken")]
    assert pictures[0] == pictures[1]


EASY = ["data.max_shapes=2", "data.min_extent=0.4", "data.max_extent=0.7", "data.val_pictures=40"]
SMALL = ["backbone.base_channels=16", "backbone.stem_channels=16", "training.batch_size=4", "training.warmup=10"]
SHORT = [*EASY, *SMALL, "training.steps=200", "training.val_every=100"]


def truth(folder: Path) -> list[dict[str, torch.Tensor]]:
    """The answers of the pictures that a short run was measured by."""
    data = ShapesConfig(**last(folder)["cfg"]["data"])
    return [target for _, target in Shapes(data, "val", data.val_pictures)]


@pytest.mark.slow
def test_detect_learns(tmp_path) -> None:
    assert run(DETECT, "faster_rcnn_resnet.yaml", tmp_path, *SHORT, "detector.out_channels=32") == 0
    untrained, half, end = last(tmp_path)["history"]
    targets = truth(tmp_path)
    guessed = [dict(target, scores=torch.ones(len(target["labels"]))) for target in targets[1:] + targets[:1]]
    chance = max(untrained["AP50"], box_ap(guessed, targets)["AP50"])  # the answers of the next picture
    assert end["loss"] < 0.8 * half["loss"]
    assert chance < 0.05
    assert end["AP50"] > 0.2


@pytest.mark.slow
def test_segment_learns(tmp_path) -> None:
    fine = ["head.hidden_size=32", "backbone.num_stages=3", "backbone.strides=[1, 1, 2]"]
    large = ["data.max_shapes=1", "data.min_extent=0.6", "data.max_extent=0.9"]
    longer = ["training.steps=320", "training.val_every=160"]
    assert run(SEGMENT, "upernet_resnet.yaml", tmp_path, *SHORT, *fine, *large, *longer) == 0
    untrained, half, end = last(tmp_path)["history"]
    targets = truth(tmp_path)
    nothing = [dict(classes=torch.zeros_like(target["classes"])) for target in targets]
    chance = max(untrained["mIoU"], mean_iou(nothing, targets)["mIoU"])
    assert end["loss"] < 0.8 * half["loss"]
    assert chance < 0.2
    assert end["mIoU"] > 0.3


def test_runs_are_not_mixed(tmp_path, capsys) -> None:
    cfg, steps = "faster_rcnn_resnet.yaml", ["training.steps=1"]
    assert run(DETECT, cfg, tmp_path, *steps, resume=True) == 2
    assert "last.pth; leave --resume out to start" in capsys.readouterr().err
    assert run(DETECT, cfg, tmp_path, *steps) == 0
    capsys.readouterr()
    assert run(DETECT, cfg, tmp_path, *steps) == 2
    assert "has a run: go on with it by --resume" in capsys.readouterr().err
    assert run(DETECT, cfg, tmp_path, *steps, "training.lr=0.5", resume=True) == 2
    assert "training.lr: is 0.5, the run in" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["last.pth", "best.pth"])
def test_a_damaged_checkpoint_is_said_to_be_one(name, tmp_path, capsys) -> None:
    assert run(DETECT, "faster_rcnn_resnet.yaml", tmp_path, "training.steps=1") == 0
    (tmp_path / name).write_bytes(b"damaged" * 9)
    assert run(DETECT, "faster_rcnn_resnet.yaml", tmp_path, "training.steps=1", resume=True) == 2
    message = "is damaged, or none of this run's checkpoints; start anew in another --work-dir"
    assert capsys.readouterr().err == f"error: {tmp_path / name}: {message}\n"


def test_what_was_trained_is_a_checkpoint_of_the_backbone(tmp_path) -> None:
    assert run(DETECT, "faster_rcnn_resnet.yaml", tmp_path, "training.steps=1") == 0
    cfg = Config.fromfile(EXAMPLES / "configs" / "faster_rcnn_resnet.yaml")
    net = build_backbone(cfg, pretrained=str(tmp_path / "best.pth"))
    saved = torch.load(tmp_path / "best.pth", weights_only=True)
    assert torch.equal(net.conv1.weight, saved["backbone.body.conv1.weight"])


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, capsys) -> None:
    assert run(DETECT, "faster_rcnn_resnet.yaml", tmp_path, "training.steps=9", "training.lr=1e30") == 2
    assert "a lower training.lr may help" in capsys.readouterr().err


def test_a_head_that_does_not_fit_its_backbone_is_refused(tmp_path, capsys) -> None:
    assert run(SEGMENT, "deeplabv3_ghostnet.yaml", tmp_path, "backbone.out_indices=[1, 3]") == 2
    assert (
        capsys.readouterr().err == "error: head: DeepLabV3 takes one map, the backbone gives 2; say out_indices: [3]\n"
    )


def test_a_device_that_is_not_there_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(*DETECT, ["--cfg", "none.yaml", "--device", "nonsense"])
    assert "argument --device: cannot be used: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_script_says_what_is_wrong_in_one_line() -> None:
    script = [sys.executable, str(EXAMPLES / "detect.py"), "--cfg", "none.yaml"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("error: ")
    assert "none.yaml" in done.stderr
