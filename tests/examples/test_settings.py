"""A wrong config is one message, which says where and what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detect import DETECTORS, FasterRCNN, RetinaNet
from segment import HEADS, DeepLabV3, UperNet
from settings import TrainingConfig, read_settings
from training import rate

from backbone_kit import ConfigError

from .conftest import EXAMPLES

CONFIGS = sorted((EXAMPLES / "configs").glob("*.yaml"))
GOOD = "detector: {type: FasterRCNN}\nbackbone: {type: ResNet, depth: 18}\ntraining: {steps: 10}\n"


def read(tmp_path: Path, text: str, **options):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return read_settings(str(file), options, "detector", DETECTORS)


def test_sections_that_are_left_out_have_defaults(tmp_path) -> None:
    settings = read(tmp_path, GOOD, **{"training.batch_size": 4})
    assert (settings.data.size, settings.training.steps, settings.training.batch_size) == (128, 10, 4)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("FasterRCNN", "FasterRCN", r"run.yaml:1: detector.type: unknown detector 'FasterRCN'; did you mean"),
        ("type: FasterRCNN", "type: FasterRCNN, channels: 3", r"run.yaml:1: detector.channels: FasterRCNN has no arg"),
        ("depth: 18", "dept: 18", r"run.yaml:2: backbone.dept: ResNet has no argument 'dept'; did you mean 'depth'\?"),
        ("depth: 18", "depth: 19", r"run.yaml:2: backbone.depth: ResNet: must be one of 10, 14"),
        ("steps: 10", "steps: ten", r"run.yaml:3: training.steps: must be an int, got 'ten'"),
        ("steps: 10", "steps: 0", r"run.yaml:3: training.steps: TrainingConfig: must be 1 or more, got 0"),
        ("steps: 10", "steps: 10, lr: -1", r"training.lr: TrainingConfig: must be over 0 and finite, got -1"),
        ("steps: 10", "steps: 10, lr: .inf", r"training.lr: TrainingConfig: must be over 0 and finite, got inf"),
        ("steps: 10", "steps: 10, weight_decay: -1", r"training.weight_decay: TrainingConfig: must be 0 or more"),
        ("steps: 10", "steps: 10, layer_decay: 2", r"training.layer_decay: .* must be over 0 and up to 1, got 2"),
        ("steps: 10", "steps: 10, seed: 18446744073709551616", r"training.seed: .* must be from 0 to 2\*\*64 - 1, got"),
        ("depth: 18", "depth: 18, in_channels: 1", r"run.yaml:2: backbone.in_channels: must be 3, .* got 1"),
        ("training: {steps: 10}", "training: 10", r"run.yaml:3: training: must be a dict, got 10"),
        ("training:", "trainning:", r"run.yaml:3: trainning: is no part of a run; did you mean 'training'\?"),
        ("training: {steps: 10}\n", "", r"run.yaml: 'training' is missing"),
        ("steps: 10}", "steps: 10}\ndata: {size: 8}", r"run.yaml:4: data.size: ShapesConfig: must be 32 or more"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path, before, after, message) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, GOOD.replace(before, after))


@pytest.mark.parametrize(
    ("model", "wrong", "allowed"),
    [
        (FasterRCNN, dict(out_channels=0), "1 or more"),
        (FasterRCNN, dict(head_channels=-4), "1 or more"),
        (FasterRCNN, dict(anchor_scale=0), "over 0 and finite"),
        (RetinaNet, dict(out_channels=-4), "1 or more"),
        (RetinaNet, dict(anchor_scale=-1), "over 0 and finite"),
        (UperNet, dict(hidden_size=0), "1 or more"),
        (DeepLabV3, dict(atrous_rates=(0, 1, 2)), "numbers from 1 on"),
        (DeepLabV3, dict(atrous_rates=()), "numbers from 1 on"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(model, wrong, allowed) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError) as caught:
        model(**wrong)
    assert str(caught.value) == f"{name}: must be {allowed}, got {value}"


def test_all_that_is_wrong_is_said_at_once(tmp_path) -> None:
    wrong = GOOD.replace("FasterRCNN", "Faster").replace("depth", "dept").replace("steps: 10", "steps: 0, lr: 0")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, wrong)
    places = {problem.path for problem in caught.value.problems}
    backbone = {("backbone", "dept"), ("backbone",)}  # and no depth
    assert places == {("detector", "type"), *backbone, ("training", "steps"), ("training", "lr")}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_configs_beside_the_examples_are_right(file) -> None:
    part, registry = ("detector", DETECTORS) if "detector:" in file.read_text() else ("head", HEADS)
    model = read_settings(str(file), {}, part, registry).model
    named = {*re.split("_", file.stem)}
    assert type(model).__name__.lower() in "".join(file.stem.split("_"))
    assert named & {"resnet", "resnest", "ghostnet"}


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    config = TrainingConfig(steps=110, warmup=10)
    assert [rate(step, config) for step in (0, 4, 10, 60)] == pytest.approx([1 / 11, 5 / 11, 1, 0.5])
    assert rate(110, config) == pytest.approx(0)
    assert rate(0, TrainingConfig(steps=5, warmup=5)) == pytest.approx(1 / 6)
