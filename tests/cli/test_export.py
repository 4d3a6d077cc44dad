"""`backbone-kit export`: a config in, a file out, and what it computes."""

import json

import pytest
import torch

from backbone_kit import build_backbone

TEXT = """\
model:
  data_preprocessor: {mean: [103.53, 116.28, 123.675], std: [57.375, 57.12, 58.395]}
  backbone: {type: ResNet, depth: 18, layers: [1], num_stages: 1, base_channels: 4}
"""
FIXED = ("--fixed", "--input-size", "24", "32")


def test_writes_what_the_config_builds_and_checks_it(run, config, tmp_path):
    path = config(TEXT)
    weights, file = tmp_path / "net.pth", tmp_path / "net.pt2"
    net = build_backbone(path).eval()
    torch.save(net.state_dict(), weights)
    result = run("export", path, "--format", "export", "-o", file, "--weights", weights, "--check", *FIXED, "--json")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert list(report["files"]) == [str(file)]
    assert report["ports"] == {
        "images": {"dtype": "float32", "shape": [1, 3, 24, 32]},
        "layer1_stride4": {"dtype": "float32", "shape": [1, 4, 6, 8]},
    }
    (row,) = report["check"]
    assert row["passes"]
    x = torch.randn(1, 3, 24, 32)
    torch.testing.assert_close(torch.export.load(file).module()(x)[0], net(x)[0], rtol=1e-4, atol=1e-4)


def test_preprocessing_is_the_configs(run, config, tmp_path):
    path, file = config(TEXT), tmp_path / "net.pt2"
    result = run("export", path, "--format", "export", "-o", file, "--with-preprocess", "--batch", "2", *FIXED)
    assert "images          uint8    2 x 3 x 24 x 32" in result.out
    assert "BGR - (103.53, 116.28, 123.675) / (57.375, 57.12, 58.395): model.data_preprocessor" in result.out
    pixels = torch.randint(256, (2, 3, 24, 32), dtype=torch.uint8)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    normalised = ((pixels.permute(0, 2, 3, 1) - mean) / std).permute(0, 3, 1, 2)[:, [2, 1, 0]]
    torch.manual_seed(0)
    expected = build_backbone(path).eval()(normalised)
    torch.testing.assert_close(torch.export.load(file).module()(pixels)[0], expected[0], rtol=1e-4, atol=1e-4)


def test_a_difference_is_an_exit_code(run, config, tmp_path):
    arguments = ("export", config(TEXT), "--format", "export", "-o", tmp_path / "net.pt2", *FIXED)
    result = run(*arguments, "--check", "--tolerance", "0")
    assert result.code == 1
    assert "more than 0" in result.out
    assert run(*arguments, "--tolerance", "1").err == "backbone-kit: error: --tolerance needs --check\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--format", "onnx", "-o", "net.pt2"),
            "error: --output: must end with .onnx for format 'onnx', got 'net.pt2'",
        ),
        (("--format", "export", "-o", "net.pt2", "--batch", "0"), "--batch: must be a positive int, got '0'"),
        (("--format", "export", "-o", "."), "error: --output: must end with .pt2"),
        (("--format", "export", "-o", "net.pt2", "--batch", "1"), "error: --batch: must be at least 2 where any"),
        (("--format", "export", "-o", "net.pt2", "--smallest", "4"), "error: --smallest: must be more than 4, the"),
        (("--format", "export", "-o", "net.pt2", "--input-size", "4", "64"), "error: --input-size: must be at least 8"),
        (("--format", "export", "-o", "net.pt2", "--check", "--tolerance", "nan"), "--tolerance: must be a finite"),
        (("--format", "export", "-o", "net.pt2", "--check", "--tolerance", "-1"), "--tolerance: must be a finite"),
        (
            (
                *("--format", "export", "-o", "net.pt2", "--with-preprocess"),
                *("--cfg-options", "model.backbone.in_channels=4"),
            ),
            "error: --with-preprocess: is for pictures of 3 channels, the backbone takes 4",
        ),
        (("--format", "export", "-o", "net.pt2", "--weights", "config"), "--weights config: the config names no"),
        (
            (
                "--format",
                "export",
                "-o",
                "net.pt2",
                "--fixed",
                "--input-size",
                "24",
                "24",
                "--cfg-options",
                "model.backbone.out_indices=[4]",
            ),
            "out",
        ),
        (("--format", "tensorrt", "-o", "net.plan"), "invalid choice: 'tensorrt'"),
    ],
)
def test_mistakes_are_one_message(run, config, arguments, message):
    result = run("export", config(TEXT), *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_the_place_is_tried_before_weights_are_read(run, config, tmp_path):
    (tmp_path / "net.pt2").mkdir()
    arguments = ("--format", "export", "--weights", tmp_path / "none.pth", "-o")
    result = run("export", config(TEXT), *arguments, tmp_path / "net.pt2")
    assert result.err == f"backbone-kit: error: --output: must name a file, got the folder '{tmp_path}/net.pt2'\n"
    result = run("export", config(TEXT), *arguments, tmp_path / "nowhere" / "net.pt2")
    assert result.err == f"backbone-kit: error: {tmp_path}/nowhere: there is no such folder\n"
