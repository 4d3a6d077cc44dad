"""Checkpoints load whole or not at all, and nothing in a file is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbone_kit import CheckpointError, load_checkpoint
from backbone_kit.backbones import ResNet
from backbone_kit.checkpoint import read_checkpoint


def small(**options: Any) -> ResNet:
    return ResNet(18, base_channels=8, num_stages=2, zero_init_residual=False, **options)


def equal(net: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("container", [None, "state_dict", "model", "model_state"])
def test_the_state_dict_is_found_in_what_training_runs_save(tmp_path: Path, container: str | None) -> None:
    weights = small().state_dict()
    torch.save({container: weights, "epoch": 12} if container else weights, tmp_path / "a.pth")
    net = small()
    report = load_checkpoint(net, tmp_path / "a.pth")
    assert equal(net, weights)
    assert (len(report.matched), report.missing) == (len(weights), ())


def test_safetensors_are_read(tmp_path: Path) -> None:
    weights = small().state_dict()
    save_file(weights, tmp_path / "a.safetensors")
    net = small()
    load_checkpoint(net, tmp_path / "a.safetensors")
    assert equal(net, weights)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "model.backbone.", "detector.backbone.", "student._orig_mod."]
)
def test_known_prefixes_are_found_and_other_parts_left_aside(prefix: str) -> None:
    weights = small().state_dict()
    file = {f"{prefix}{key}": value for key, value in weights.items()} | {"neck.conv.weight": torch.zeros(1)}
    net = small()
    report = load_checkpoint(net, file)
    assert equal(net, weights)
    assert report.prefix == prefix
    assert report.left_aside == {"neck": 1}
    assert not report.unexpected
    assert str(report) == f"the state dict: {len(weights)} of {len(weights)} served · 0 renamed · left aside: neck 1"


@pytest.mark.parametrize("prefix", ["student", "student."])
def test_between_two_parts_that_fit_the_user_decides(prefix: str) -> None:
    student, teacher = small().state_dict(), small().state_dict()
    file = {f"student.{key}": value for key, value in student.items()}
    file |= {f"teacher.{key}": value for key, value in teacher.items()}
    net = small()
    with pytest.raises(
        CheckpointError, match=r"has the model's keys under 'student\.', 'teacher\.'; pass prefix='\.\.\.'"
    ):
        load_checkpoint(net, file)
    assert load_checkpoint(net, file, prefix=prefix).prefix == "student."
    assert equal(net, student)


def test_init_cfg_names_a_prefix(tmp_path: Path) -> None:
    student, teacher = small().state_dict(), small().state_dict()
    both = {f"student.{key}": value for key, value in student.items()}
    torch.save(both | {f"teacher.{key}": value for key, value in teacher.items()}, tmp_path / "both.pth")
    cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "both.pth"), "prefix": "teacher"}
    net = small(init_cfg=cfg)
    net.init_weights()
    assert equal(net, teacher)


def test_batch_counters_may_be_missing_and_nothing_else_may() -> None:
    weights = small().state_dict()
    without = {key: value for key, value in weights.items() if "num_batches" not in key}
    net = small()
    assert not equal(net, weights)
    load_checkpoint(net, without)
    assert torch.equal(net.conv1.weight, weights["conv1.weight"])
    del without["bn1.running_mean"]
    with pytest.raises(CheckpointError, match=r"missing: bn1\.running_mean"):
        load_checkpoint(net, without)
    assert load_checkpoint(net, without, strict=False).missing.count("bn1.running_mean") == 1


def test_under_half_served_is_refused_even_when_not_strict() -> None:
    weights = small().state_dict()
    few = {key: value for key, value in weights.items() if key.startswith("layer1.0")}
    needed = sum("num_batches" not in key for key in weights if key not in few) + len(few)
    with pytest.raises(CheckpointError, match=rf"serves {len(few)} of the model's {needed} keys"):
        load_checkpoint(small(), few, strict=False)


def test_a_failed_load_leaves_the_model_untouched() -> None:
    net = small()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = small().state_dict()
    weights["layer2.1.conv2.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"layer2\.1\.conv2\.weight is \(1,\) there, \(16, 16, 3, 3\) here"):
        load_checkpoint(net, weights)
    assert equal(net, before)


def test_adaptive_standardisation_finds_its_buffers_in_a_plain_weight() -> None:
    plain = small().eval()
    adaptive = small(conv_cfg={"type": "ConvAWS"}).eval()
    load_checkpoint(adaptive, plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for ours, expected in zip(adaptive(x), plain(x)):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_a_model_without_memory_takes_the_tensors_of_a_file(tmp_path: Path) -> None:
    source = small().eval()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    with torch.device("meta"):
        net = small(frozen_stages=1)
    load_checkpoint(net, tmp_path / "a.safetensors")
    assert equal(net, source.state_dict())
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in small(frozen_stages=1).parameters()]
    x = torch.randn(1, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(net.eval()(x), source(x)))


@pytest.mark.parametrize("save", [save_file, torch.save], ids=["safetensors", "torch"])
def test_a_file_is_read_under_another_default_device(tmp_path: Path, save: Any) -> None:
    source = small()
    save(source.state_dict(), tmp_path / "weights")
    with torch.device("meta"):
        net = small()
        load_checkpoint(net, tmp_path / "weights")
    assert equal(net, source.state_dict())


def test_a_models_memory_is_the_mapped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(small().state_dict(), tmp_path / "a.safetensors")
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    monkeypatch.setattr("backbone_kit.checkpoint.load.read_checkpoint", lambda *args, **kwargs: checkpoint)
    with torch.device("meta"):
        net = small()
    load_checkpoint(net, tmp_path / "a.safetensors")
    assert all(value.data_ptr() == checkpoint.tensors[key].data_ptr() for key, value in net.state_dict().items())


def test_a_model_without_memory_gets_its_own_copy_of_a_state_dict() -> None:
    weights = small().state_dict()
    del weights["bn1.num_batches_tracked"]
    with torch.device("meta"):
        net = small()
    load_checkpoint(net, weights)
    net.conv1.weight.data.zero_()
    assert weights["conv1.weight"].any()
    assert net.bn1.num_batches_tracked == 0


def test_what_would_stay_without_memory_is_named() -> None:
    weights = small().state_dict()
    del weights["conv1.weight"]
    with torch.device("meta"):
        net = small()
    with pytest.raises(CheckpointError, match=r"conv1\.weight would stay without memory; call model\.to_empty"):
        load_checkpoint(net, weights, strict=False)
    assert all(value.is_meta for value in net.state_dict().values())


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-executed",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = small().state_dict()
    torch.save({"state_dict": weights, "hook": Malicious()}, "a.pth")
    net = small()
    load_checkpoint(net, "a.pth")
    assert equal(net, weights)
    Path("b.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(CheckpointError, match=r"b\.pth: is a \w+\.mkdir, not a state dict"):
        load_checkpoint(small(), "b.pth")
    assert not Path("was-executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pth", None, "no such file"),
        ("empty.pth", b"", "is empty"),
        ("text.pth", b"hello", "is no checkpoint"),
        ("page.pth", b"<!DOCTYPE html><html>404</html>", "is a page of HTML or XML"),
        ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run: git lfs pull"),
        ("bad.safetensors", b"\xff" * 64, "is no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: .*{message}"):
        load_checkpoint(small(), tmp_path / name)
    with pytest.raises(CheckpointError, match="is a directory"):
        load_checkpoint(small(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.to_sparse(), r"is no plain tensor there, but sparse_coo float32"),
        (lambda w: w.to("meta"), r"is no plain tensor there, but meta float32"),
        (lambda w: w.int(), r"is int32 there, float32 here"),
        (lambda w: w.to(torch.complex64), r"is complex64 there, float32 here"),
        (lambda w: w * float("nan"), r"has values that are infinite or no number"),
    ],
)
def test_a_tensor_that_cannot_be_copied_is_named_before_any_is(change: Any, message: str) -> None:
    net = small()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = small().state_dict()
    weights["layer2.1.conv2.weight"] = change(weights["layer2.1.conv2.weight"])
    with pytest.raises(CheckpointError, match=rf"layer2\.1\.conv2\.weight {message}"):
        load_checkpoint(net, weights)
    assert equal(net, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, {}), r"model must be a torch\.nn\.Module, got a NoneType"),
        ((nn.Identity(), 5), "source must be a path or a state dict, got a int"),
        ((nn.Identity(), {}, True), "layout must be a string, got a bool"),
        ((nn.Identity(), {}, "auto", "no"), "strict must be True or False, got a str"),
        ((nn.Identity(), {}, "auto", True, 5), "prefix must be a string or None, got a int"),
    ],
)
def test_arguments_of_other_kinds_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(*arguments)


def test_a_file_without_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: holds no tensors, only: epoch; looked for state_dict, model"):
        load_checkpoint(small(), tmp_path / "a.pth")
    torch.save([torch.zeros(1)], tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"b\.pth: holds a list, not a state dict"):
        load_checkpoint(small(), tmp_path / "b.pth")


def test_offline_a_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBONE_KIT_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"a\.pth: .* BACKBONE_KIT_OFFLINE is set; unset it, or put the file at"):
        load_checkpoint(small(), "https://example.invalid/a.pth")
