"""The state dict is found in what training runs save; what is not read is named."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from backbone_kit import CheckpointError, load_checkpoint
from backbone_kit.checkpoint.io import read_checkpoint

RAW, MEAN = {"w": torch.zeros(2)}, {"w": torch.ones(2)}


@pytest.mark.parametrize(
    "container", ["state_dict", "model", "model_state", "model_state_dict", "blobs", "net", "params"]
)
def test_containers_are_opened(container: str) -> None:
    found = read_checkpoint({container: RAW, "epoch": 3, "optimizer": {"state": {}}})
    assert (found.container, found.left_aside) == (container, ("epoch", "optimizer"))
    assert found.tensors["w"] is RAW["w"]


def test_containers_within_containers_are_opened() -> None:
    found = read_checkpoint({"model": {"state_dict": RAW, "args": 1}, "epoch": 3})
    assert (found.container, found.left_aside) == ("model.state_dict", ("epoch", "model.args"))


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema_state_dict", "ema_state", "ema"])
@pytest.mark.parametrize("container", ["state_dict", "model"])
def test_averaged_weights_come_on_request(averaged: str, container: str) -> None:
    content = {container: RAW, averaged: MEAN}
    assert read_checkpoint(content).tensors["w"] is RAW["w"]
    assert read_checkpoint(content, ema=True).tensors["w"] is MEAN["w"]
    assert (
        read_checkpoint({container: RAW, averaged: {"state_dict": MEAN}}, ema=True).container
        == f"{averaged}.state_dict"
    )


@pytest.mark.parametrize("mark", [{"message_hub": {}}, {"meta": {"mmengine_version": "0.10.7"}}])
def test_files_of_mmengine_have_them_in_the_state_dict(mark: dict[str, Any]) -> None:
    content = {"state_dict": MEAN, "ema_state_dict": RAW, **mark}
    for ema in (False, True):
        assert read_checkpoint(content, ema=ema).tensors["w"] is MEAN["w"]
    with pytest.raises(CheckpointError, match="holds no averaged weights"):
        read_checkpoint({"state_dict": RAW, **mark}, ema=True)


def test_a_file_without_averaged_weights_says_so() -> None:
    with pytest.raises(CheckpointError, match="the state dict: holds no averaged weights; looked for state_dict_ema"):
        read_checkpoint(RAW, ema=True)


def test_arrays_are_tensors_and_other_values_are_named() -> None:
    found = read_checkpoint(
        OrderedDict({"a": np.ones(2, ">f4"), b"b": torch.ones(1), "version": "1.0", 3: torch.ones(1)})
    )
    assert {key: value.tolist() for key, value in found.tensors.items()} == {"a": [1.0, 1.0], "b": [1.0]}
    assert found.tensors["a"].dtype == torch.float32
    assert (dict(found.hanging), found.left_aside) == ({}, ("version", "3"))


def test_a_tensor_that_hangs_on_an_object_is_named(tmp_path: Path) -> None:
    weights = {"a": torch.ones(2), "s": torch.eye(2).to_sparse(), "l": nn.ReLU()}
    torch.save(weights, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert list(found.tensors) == ["a"]
    assert dict(found.hanging) == {
        "s": "torch._utils._rebuild_sparse_tensor",
        "l": "torch.nn.modules.activation.ReLU",
    }


@pytest.mark.parametrize("wanted", [True, False])
def test_a_load_fails_only_where_a_wanted_tensor_hangs_on_an_object(wanted: bool, tmp_path: Path) -> None:
    weights: dict[str, Any] = nn.Sequential(nn.Linear(2, 2)).state_dict()
    key = "0.weight" if wanted else "1.weight"
    torch.save(weights | {key: torch.eye(2).to_sparse()}, tmp_path / "a.pth")
    net = nn.Sequential(nn.Linear(2, 2))
    before = net[0].weight.clone()
    if wanted:
        with pytest.raises(CheckpointError, match=r"a\.pth: 0\.weight hangs on torch\._utils\._rebuild_sparse_tensor"):
            load_checkpoint(net, tmp_path / "a.pth")
        assert torch.equal(net[0].weight, before)
    else:
        report = load_checkpoint(net, tmp_path / "a.pth", strict=False)
        assert torch.equal(net[0].weight, weights["0.weight"])
        assert "torch._utils._rebuild_sparse_tensor" in report.inert
        assert "torch._utils._rebuild_sparse_tensor" in report.details()


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model, "epoch": 1}])
def test_a_whole_model_is_no_state_dict(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap(nn.Linear(2, 2)), tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError,
        match=r"a torch\.nn\.modules\.linear\.Linear, not a state dict; save model\.state_dict\(\) instead",
    ):
        read_checkpoint(tmp_path / "a.pth")


TRAIN = """
import sys, torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

class Detector(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.neck = nn.Conv2d(4, 2, 1)
    def forward(self, inputs, data_samples=None, mode="loss"):
        return {"loss": self.neck(self.backbone(inputs)).square().mean()}

images = [torch.randn(3, 8, 8) for _ in range(4)]
loader = DataLoader(images, batch_size=2, collate_fn=lambda x: {"inputs": torch.stack(x)})
Runner(
    model=Detector(), work_dir=sys.argv[1], train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=12),
    optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9)),
    param_scheduler=[dict(type="LinearLR", by_epoch=False, end=3), dict(type="MultiStepLR", milestones=[8])],
    custom_hooks=[dict(type="EMAHook")], default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=12)),
    cfg=dict(a=1), experiment_name="x",
).train()
"""


@pytest.mark.slow
def test_what_the_runner_of_mmengine_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("mmengine")
    done = subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "epoch_12.pth"
    found = read_checkpoint(path)
    assert found.container == "state_dict"
    assert found.left_aside == ("meta", "message_hub", "optimizer", "param_schedulers", "ema_state_dict")
    assert found.inert == ("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr")
    expected = torch.load(path, weights_only=False)["state_dict"]
    assert list(found.tensors) == list(expected)
    assert all(torch.equal(found.tensors[key], value) for key, value in expected.items())
    assert read_checkpoint(path, ema=True).container == "state_dict"
