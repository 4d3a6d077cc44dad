"""`backbone-kit check`: one row a file, and whether all of them build."""

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GOOD = (
    "model: {backbone: {type: ResNet, depth: 50, init_cfg: {type: Pretrained, checkpoint: 'torchvision://resnet50'}},\n"
)


def files(result) -> dict[str, dict]:
    return {Path(verdict["file"]).name: verdict for verdict in json.loads(result.out)["files"]}


def test_says_what_a_file_holds(run, config):
    path = config(GOOD + "  neck: [{type: FPN, in_channels: [256, 512, 1024, 2048]}, {type: BFP}]}\n")
    result = run("check", path, "--json")
    assert result.code == 0
    assert files(result)["net.yaml"] == {
        "file": str(path),
        "result": "ok",
        "backbone": "ResNet 50",
        "neck": "FPN + BFP",
        "weights": "torchvision://resnet50",
        "problems": [],
    }


@pytest.mark.parametrize(
    ("neck", "fix"),
    [
        ("{type: FPN, in_channels: [64, 128, 256, 512]}", "set it to [256, 512, 1024, 2048]"),
        ("[{type: FPN, in_channels: [512, 1024, 2048]}]", "set it to [256, 512, 1024, 2048]"),
        ("{type: DilatedEncoder, in_channels: 512, x: 1}", None),
        ("{type: DilatedEncoder, in_channels: 100}", "set it to one of [256, 512, 1024, 2048]"),
        ("{type: YOLOV3Neck, in_channels: [2048, 1024, 512, 256]}", None),
    ],
)
def test_the_neck_must_fit(run, config, neck, fix):
    path = config(GOOD + f"  neck: {neck}}}\n")
    result = run("check", path, "--json")
    assert result.code == (1 if fix else 0)
    (verdict,) = files(result).values()
    if fix:
        assert f"{path}:2: model.neck" in verdict["problems"][0]
        assert fix in verdict["problems"][0]


@pytest.mark.parametrize("given", ["64.0", "true", "'64'", "{a: 1}", "[64, x]"])
def test_channels_of_a_neck_are_ints(run, config, given):
    path = config(GOOD + f"  neck: {{type: FPN, in_channels: {given}}}}}\n")
    (problem,) = files(run("check", path, "--json"))["net.yaml"]["problems"]
    assert problem.startswith(f"{path}:2: model.neck.in_channels: must be an int or a list of ints, got ")


@pytest.mark.parametrize("scope", ["[mmdet]", "{a: 1}", "5"])
def test_a_scope_of_another_type_is_no_crash(run, config, scope):
    result = run("check", config(f"default_scope: {scope}\nbackbone: {{type: ResNet, depth: 18}}\n"))
    assert (result.code, result.err, "default_scope" in result.out) == (1, "", True)


def test_what_builds_must_also_run(run, config, monkeypatch):
    path = config("backbone: {type: ResNet, depth: 18}\n")
    monkeypatch.setattr(torch.nn.MaxPool2d, "forward", lambda self, x: torch.nn.LayerNorm(32, device="meta")(x))
    (problem,) = files(run("check", path, "--json"))["net.yaml"]["problems"]
    assert problem.startswith(f"{path}: backbone: ResNet cannot run on 224x224 pixels: maxpool (MaxPool2d): Given norm")


def test_what_only_the_meta_device_cannot_run_is_no_failure(run, config, monkeypatch):
    monkeypatch.setattr(torch.nn.MaxPool2d, "forward", lambda self, x: x[x > 0])
    assert run("check", config()).code == 0


def test_failures_show_place_and_fix(run, config):
    path = config("type: ResNet\ndepth: 50\nnorm_evl: true\nstyl: caffe\n")
    result = run("check", path)
    assert result.code == 1
    assert f"{path}:3: norm_evl: ResNet has no argument 'norm_evl'; did you mean 'norm_eval'?" in result.out
    assert "did you mean 'style'?" in result.out
    assert "1 failed" in result.out


def test_folders_and_patterns_are_searched(run, config, tmp_path):
    config(name="a/one.yaml")
    config(name="a/b/two.yml")
    config(name="_base_/three.yaml")
    config("optimizer: {lr: 0.1}\n", name="a/schedule.yaml")
    config("Models: []\n", name="a/metafile.yml")
    in_folder = run("check", tmp_path, "--json")
    assert in_folder.code == 0
    assert {name: verdict["result"] for name, verdict in files(in_folder).items()} == {
        "one.yaml": "ok",
        "two.yml": "ok",
        "schedule.yaml": "no backbone",
    }
    assert set(files(run("check", tmp_path / "**" / "t*.y*ml", "--json"))) == {"two.yml", "three.yaml"}


def test_a_named_file_must_hold_a_backbone(run, config):
    result = run("check", config("optimizer: {lr: 0.1}\n"))
    assert (result.code, "no backbone" in result.out) == (1, True)


def test_one_broken_file_does_not_hide_the_others(run, config, tmp_path):
    config(name="good.yaml")
    config("type: [\n", name="broken.yaml")
    result = run("check", tmp_path / "nope.yaml", tmp_path, "--json")
    assert {name: v["result"] for name, v in files(result).items()} == {
        "nope.yaml": "failed",
        "broken.yaml": "failed",
        "good.yaml": "ok",
    }


def test_nothing_to_check_is_an_error(run, tmp_path):
    result = run("check", tmp_path)
    assert (result.code, result.err) == (2, f"backbone-kit: error: no config files in {tmp_path}\n")


def test_a_recursive_pyramid_takes_the_picture_beside_the_maps(run, tmp_path):
    backbone = {"type": "DetectoRS_ResNet", "depth": 50, "output_img": True, "norm_cfg": {"type": "BN"}}
    neck = {"type": "RFP", "in_channels": [256, 512, 1024, 2048]}
    path = tmp_path / "detectors.json"
    path.write_text(json.dumps({"model": {"backbone": backbone, "neck": neck}}))
    assert run("check", path).code == 0
    neck["in_channels"][0] = 255
    path.write_text(json.dumps({"model": {"backbone": backbone, "neck": neck}}))
    assert "whose outputs have [256, 512, 1024, 2048] channels" in run("check", path).out


@pytest.mark.slow
def test_our_own_configs_build(run):
    result = run("check", ROOT / "configs", "--markdown")
    assert result.code == 0, result.out
    assert result.out.startswith("| file | backbone |")
