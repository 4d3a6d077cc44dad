"""`backbone-kit shapes`: the table, its other forms, the picture, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from backbone_kit import build_backbone
from backbone_kit.cli.picture import read_picture
from backbone_kit.cli.preprocessing import find_preprocessing

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "examples" / "data" / "astronaut.jpg"


def test_resnet50_in_numbers(run, config):
    result = run("shapes", config("type: ResNet\ndepth: 50\nfrozen_stages: 1\n"), "--json")
    report = json.loads(result.out)
    with torch.device("meta"):
        peer = torchvision.models.resnet50()
    fc = peer.fc.weight.numel()
    assert report["macs"] == 4_089_184_256 - fc  # torch's flop counter on torchvision's net, without the classifier
    assert report["flops"] == 2 * report["macs"]
    assert report["parameters"] == sum(p.numel() for p in peer.parameters()) - fc - 1000
    levels = {part["name"]: part for part in report["parts"]}
    assert [levels[f"layer{i}"]["channels"] for i in (1, 2, 3, 4)] == [256, 512, 1024, 2048]
    assert levels["layer4"]["size"] == [7, 7]
    assert levels["layer4"]["receptive_field"] == [427, 427]
    assert (levels["layer1"]["frozen"], levels["layer2"]["frozen"]) == ("all", "")


def test_the_table_fits_100_columns(run):
    result = run("shapes", ROOT / "configs/resnet/resnet50.yaml", "--input-size", 800, 1344)
    assert result.code == 0
    table = result.out.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= 100
    assert "layer4" in table
    assert "23.51 M" in table


def test_special_layers_are_named(run, config):
    text = (
        "type: ResNet\ndepth: 50\nout_indices: [2]\ndcn: {type: DCNv2}\nstage_with_dcn: [false, false, true, false]\n"
    )
    text += "plugins:\n- {cfg: {type: ContextBlock, ratio: 0.25}, position: after_conv3, stages: "
    text += "[false, true, false, false]}\n"
    report = json.loads(run("shapes", config(text), "--json").out)
    parts = {part["name"]: part for part in report["parts"]}
    assert parts["layer3"]["deformable"] == {"DCNv2": 6}
    assert parts["layer2"]["plugins"] == {"ContextBlock": 4}
    assert parts["layer2"]["receptive_field"] == "unbounded"
    assert (parts["layer3"]["out_index"], parts["layer4"]["size"]) == (0, None)


def test_strides_hold_at_sizes_that_are_no_multiples(run, config):
    report = json.loads(run("shapes", config(), "--input-size", 97, 97, "--json").out)
    assert [part["stride"] for part in report["parts"]] == [2, 4, 4, 8, 16, 32]


def test_notes_are_no_wider_than_the_table(run):
    table, *notes = run("shapes", "resnet50_dcnv2").out.split("\n\n")[1:]
    width = max(map(len, table.splitlines()))
    assert notes[-1].startswith("no MACs in: ")
    assert all(len(line) <= width for line in notes[-1].splitlines())
    assert all(line.endswith(",") for line in notes[-1].splitlines()[:-1])


@pytest.mark.slow
def test_a_terminal_without_infinity(config):
    text = "type: ResNet\ndepth: 50\nplugins: [{cfg: {type: ContextBlock, ratio: 0.25}, position: after_conv3}]\n"
    command = [sys.executable, "tools/print_shapes.py", str(config(text))]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert " inf " in done.stdout


def test_markdown_has_one_row_a_part(run, config):
    out = run("shapes", config(), "--markdown").out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("|")][2:] == [
        *("stem", "pool", "layer1", "layer2", "layer3", "layer4", "total")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "type: ResNet\ndepth: 18\n",
        "backbone: {type: ResNet, depth: 18}\n",
        "model: {backbone: {type: ResNet, depth: 18}, neck: {type: FPN}}\n",
        "model: {detector: {backbone: {type: mmdet.ResNet, depth: 18}}}\n",
    ],
    ids=["bare", "backbone", "model", "detector"],
)
def test_finds_the_backbone(run, config, text):
    assert json.loads(run("shapes", config(text), "--json").out)["backbone"] == "ResNet"


def test_options_change_the_config(run, config):
    out = run(
        "shapes", config(), "--cfg-options", "depth=34", "in_channels=1", "--json", "--input-size", "64", "32"
    ).out
    report = json.loads(out)
    assert report["input_shape"] == [1, 1, 64, 32]
    assert [part["blocks"] for part in report["parts"]] == [0, 0, 3, 4, 6, 3]


def test_options_may_be_given_twice(run, config):
    argv = ("--cfg-options", "depth=34", "--cfg-options", "in_channels=1")
    report = json.loads(run("shapes", config(), *argv, "--json").out)
    assert (report["input_shape"][1], report["parts"][4]["blocks"]) == (1, 6)


def test_a_picture_is_measured_beside_the_prediction(run, config, tmp_path):
    plot = tmp_path / "out.png"
    result = run("shapes", config(), "--image", PHOTO, "--input-size", 96, 64, "--plot", plot, "--json")
    image = json.loads(result.out)["image"]
    assert image["levels"]["layer4"]["shape"] == [1, 512, 3, 2]
    assert image["levels"]["layer4"]["min"] >= 0
    assert "ImageNet's" in image["preprocessing"]["source"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_picture_table_says_what_was_measured(run, config):
    preprocessing = "data_preprocessor: {mean: [103.53, 116.28, 123.675], std: [1.0, 1.0, 1.0], bgr_to_rgb: false}\n"
    cfg = config(preprocessing + "backbone: {type: ResNet, depth: 18}\n")
    out = run("shapes", cfg, "--image", PHOTO, "--input-size", 64, 64).out
    assert "BGR - (103.53, 116.28, 123.675) / (1, 1, 1): data_preprocessor" in out
    assert "512x2x2   512x2x2" in out


def test_weights_come_from_a_file(run, config, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = build_backbone(dict(type="ResNet", depth=18))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    argv = ("shapes", config(), "--image", PHOTO, "--input-size", 64, 64, "--json", "--weights", tmp_path / "net.pth")
    image = json.loads(run(*argv).out)["image"]
    x = find_preprocessing({})(read_picture(str(PHOTO), (64, 64)))
    with torch.no_grad():
        expected = net.eval()(x)[-1]
    assert image["levels"]["layer4"]["mean"] == pytest.approx(expected.mean().item(), rel=1e-5)
    named = config(f"type: ResNet\ndepth: 18\ninit_cfg: {{type: Pretrained, checkpoint: {tmp_path}/net.pth}}\n")
    again = json.loads(run("shapes", named, *argv[2:-1], "config").out)["image"]
    assert (again["weights"], again["levels"]) == (f"{tmp_path}/net.pth", image["levels"])


@pytest.mark.parametrize("more", ["", "init_cfg: {type: Kaiming, layer: Conv2d}\n"])
def test_weights_that_the_config_does_not_name_are_refused(run, config, more):
    path = config("type: ResNet\ndepth: 18\n" + more)
    result = run("shapes", path, "--image", PHOTO, "--input-size", 32, 32, "--weights", "config")
    assert (result.code, result.err) == (2, "backbone-kit: error: --weights config: the config names no checkpoint\n")


def test_a_plot_never_replaces_its_picture(run, config, tmp_path):
    picture, link = tmp_path / "in.jpg", tmp_path / "link.jpg"
    picture.write_bytes(PHOTO.read_bytes())
    link.symlink_to(picture)
    result = run("shapes", config(), "--image", picture, "--input-size", 32, 32, "--plot", link)
    assert (result.code, "it is the picture itself" in result.err) == (2, True)
    assert picture.read_bytes() == PHOTO.read_bytes()


def test_a_forward_that_fails_names_the_layer(run, config, monkeypatch):
    def fail(*args):
        raise RuntimeError("no such thing\nat all")

    monkeypatch.setattr(torch.nn.MaxPool2d, "forward", fail)
    message = "backbone-kit: error: ResNet cannot run on 32x32 pixels: maxpool (MaxPool2d): no such thing\n"
    for argv in ([], ["--image", PHOTO]):
        result = run("shapes", config(), "--input-size", 32, 32, *argv)
        assert (result.code, result.err) == (2, message)


@pytest.mark.parametrize(("package", "argv"), [("PIL", []), ("matplotlib.figure", ["--plot", "x.png"])])
def test_a_missing_extra_is_named(run, config, monkeypatch, package, argv):
    monkeypatch.setitem(sys.modules, package, None)
    result = run("shapes", config(), "--image", PHOTO, "--input-size", 32, 32, *argv)
    assert result.code == 2
    assert "pip install 'backbone-kit[image]'" in result.err


BAD = {
    "missing file": (["nope.yaml"], "nope.yaml"),
    "zero size": (["{cfg}", "--input-size", "0", "5"], "--input-size: must be a positive int, got '0'"),
    "negative size": (["{cfg}", "--input-size", "5", "-3"], "--input-size"),
    "huge size": (["{cfg}", "--input-size", "9" * 20, "1"], "--input-size: must be at most 1000000 pixels"),
    "misspelled option": (["{cfg}", "--cfg-options", "dept=50"], "did you mean 'depth'?"),
    "option without a value": (["{cfg}", "--cfg-options", "depth"], "'depth'"),
    "swallowed file": (["--cfg-options", "depth=34", "{cfg}"], "net.yaml' is no KEY=VALUE; put the config file first"),
    "broken value": (["{cfg}", "--cfg-options", "depth=[3"], "argument --cfg-options: the value '[3'"),
    "unknown flag": (["{cfg}", "--jsno"], "unrecognized arguments: --jsno"),
    "two formats": (["{cfg}", "--json", "--markdown"], "not allowed with argument"),
    "plot without image": (["{cfg}", "--plot", "x.png"], "--plot needs --image"),
    "weights without image": (["{cfg}", "--weights", "x.pth"], "--weights needs --image"),
    "empty plot": (["{cfg}", "--image", PHOTO, "--plot", ""], "--plot: must name a file"),
    "empty picture name": (["{cfg}", "--image", ""], "--image: must name a file"),
    "missing picture": (["{cfg}", "--image", "nope.jpg"], "nope.jpg: there is no such file"),
    "unreadable picture": (["{cfg}", "--image", "{cfg}"], "cannot be read as a picture"),
    "one channel": (["{cfg}", "--image", PHOTO, "--cfg-options", "in_channels=1"], "takes 1 channels, a picture has 3"),
    "unwritable plot": (
        ["{cfg}", "--image", PHOTO, "--input-size", "32", "32", "--plot", "/no/x.png"],
        "cannot be written",
    ),
    "plot before work": (["{cfg}", "--image", "nope.jpg", "--plot", "/no/x.png"], "there is no folder /no"),
    "unknown format": (["{cfg}", "--image", PHOTO, "--input-size", "32", "32", "--plot", "x.foo"], "cannot be written"),
    "missing weights": (["{cfg}", "--image", PHOTO, "--input-size", "32", "32", "--weights", "no.pth"], "no.pth"),
    "no command": ([], "required: COMMAND"),
}


@pytest.mark.parametrize(("argv", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_message_and_exit_code_2(run, config, argv, message):
    argv = [str(argument).format(cfg=config()) for argument in argv]
    result = run("shapes", *argv) if argv else run()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("backbone-kit: error: ")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_config_without_backbone_is_refused(run, config):
    result = run("shapes", config("optimizer: {lr: 0.1}\n"))
    assert (result.code, "no backbone" in result.err) == (2, True)


def test_a_bad_config_names_its_line(run, config):
    path = config("type: ResNet\ndepth: 18\nnorm_evl: true\n")
    assert f"{path}:3: norm_evl" in run("shapes", path).err


@pytest.mark.slow
def test_the_tool_is_the_command_and_starts_without_slow_imports():
    """Each of these takes longer to import than the whole command may; PyTorch's own meta kernels would need them."""
    script = (
        "import sys, torch, torch.utils.checkpoint; slow = {'torch._dynamo', 'sympy'} - set(sys.modules);"
        "sys.path.insert(0, 'tools'); import print_shapes;"
        "print_shapes.main(['shapes', 'configs/resnet/resnet50.yaml']);"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "layer4" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} tools/print_shapes.py configs/resnet/resnet18.yaml | true"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert done.stderr == ""
