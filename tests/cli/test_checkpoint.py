"""`backbone-kit checkpoint`: what a file holds, in another layout, against another one."""

import re

import pytest
import timm
import torch

from backbone_kit import build_backbone, load_checkpoint
from backbone_kit.checkpoint import read_checkpoint


@pytest.fixture
def timm_file(tmp_path):
    """A training file of timm's resnet18d."""
    weights = {f"module.{key}": value for key, value in timm.create_model("resnet18d").state_dict().items()}
    torch.save({"state_dict": weights, "optimizer": {}, "epoch": 3}, tmp_path / "run.pth")
    return tmp_path / "run.pth"


def test_inspect_tells_whose_keys_they_are_and_what_is_in_them(run, timm_file):
    result = run("checkpoint", "inspect", timm_file)
    assert result.code == 0
    values = sum(p.numel() for p in timm.create_model("resnet18d").state_dict().values())
    assert result.out.startswith(f"{timm_file}: 134 tensors in 'state_dict', {values / 1e6:.2f} M values, ")
    assert "layout: timm, ResNet with a deep stem, behind 'module.'\nnot read: optimizer, epoch\n" in result.out
    assert re.search(r"^module\.layer2 +30 ", result.out, re.MULTILINE)


def test_inspect_says_how_it_would_load(run, timm_file):
    fits = run("checkpoint", "inspect", timm_file, "--config", "resnet18_v1d")
    assert fits.code == 0
    assert "132 of 132 served · 18 renamed · left aside: fc 2 · optimizer, epoch not read" in fits.out
    assert "refused" not in fits.out
    other = run("checkpoint", "inspect", timm_file, "--config", "resnet18")
    assert other.code == 1
    assert re.search(r"^missing +conv1 1, layer2 4.*: conv1\.weight, ", other.out, re.MULTILINE)
    assert "\nrefused: " in other.out


def test_inspect_of_what_has_no_layout(run, tmp_path):
    torch.save({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    result = run("checkpoint", "inspect", tmp_path / "a.pth")
    assert result.code == 0
    assert "layout: none; it has no keys of any layout here, only: encoder.weight\n" in result.out


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_convert_writes_a_file_that_loads(run, timm_file, tmp_path, suffix):
    output = tmp_path / f"ours{suffix}"
    result = run("checkpoint", "convert", timm_file, output, "--to", "mmdet", "--drop", "*.fc.*")
    assert result.out == f"{output}: 132 keys in mmdet's layout, 2 dropped\n"
    assert set(read_checkpoint(output).tensors) == set(build_backbone("resnet18_v1d").state_dict())
    ours, theirs = build_backbone("resnet18_v1d"), build_backbone("resnet18_v1d")
    assert load_checkpoint(ours, output).renamed == {}
    load_checkpoint(theirs, timm_file)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["run.pth", output.name])


def test_convert_never_overwrites_and_never_leaves_half_a_file(run, timm_file, tmp_path):
    before = timm_file.read_bytes()
    result = run("checkpoint", "convert", timm_file, timm_file, "--to", "mmdet")
    assert (result.code, timm_file.read_bytes()) == (2, before)
    assert "is there already" in result.err
    result = run("checkpoint", "convert", timm_file, tmp_path / "a.pth", "--to", "detectron2")
    assert result.code == 2
    assert "detectron2's layout has no name" in result.err
    assert (
        "unknown layout 'mmdets'" in run("checkpoint", "convert", timm_file, tmp_path / "a.pth", "--to", "mmdets").err
    )
    assert [p.name for p in tmp_path.iterdir()] == ["run.pth"]


def test_diff_looks_through_layouts(run, timm_file, tmp_path):
    same, changed = tmp_path / "same.safetensors", tmp_path / "changed.pth"
    run("checkpoint", "convert", timm_file, same, "--to", "mmdet")
    assert run("checkpoint", "diff", timm_file, same) == (0, "134 equal, 0 within 0\n", "")

    tensors = dict(read_checkpoint(same).tensors)
    tensors["layer1.0.bn1.bias"] = tensors["layer1.0.bn1.bias"] + 0.25
    tensors["fc.bias"] = torch.zeros(5)
    tensors["extra"] = tensors.pop("layer2.0.conv1.weight")
    torch.save(tensors, changed)
    result = run("checkpoint", "diff", timm_file, changed)
    assert result.code == 1
    assert f"only in {timm_file}: 1\n  layer2.0.conv1.weight\nonly in {changed}: 1\n  extra\n" in result.out
    assert "other shapes: 1\n  fc.bias (1000,) (5,)\nother values: 1\n  layer1.0.bn1.bias by 0.25\n" in result.out
    assert result.out.endswith("131 equal, 0 within 0\n")
    assert "other values" not in run("checkpoint", "diff", timm_file, changed, "--tolerance", "0.3").out


def test_averaged_weights_are_read_on_request(run, tmp_path):
    net = build_backbone("resnet18").state_dict()
    average = {key: torch.zeros_like(value) for key, value in net.items()}
    torch.save({"state_dict": net, "state_dict_ema": average}, tmp_path / "a.pth")
    torch.save(average, tmp_path / "b.pth")
    assert run("checkpoint", "diff", tmp_path / "a.pth", tmp_path / "b.pth").code == 1
    result = run("checkpoint", "inspect", tmp_path / "a.pth", "--ema")
    assert "120 tensors in 'state_dict_ema'" in result.out
    run("checkpoint", "convert", tmp_path / "a.pth", tmp_path / "c.pth", "--to", "torchvision", "--ema")
    assert run("checkpoint", "diff", tmp_path / "c.pth", tmp_path / "b.pth").code == 0


def test_a_missing_file_is_one_line(run, tmp_path):
    result = run("checkpoint", "inspect", tmp_path / "none.pth")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"backbone-kit: error: {tmp_path / 'none.pth'}: no such file\n"
