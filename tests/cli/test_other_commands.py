"""`list`, `explain`, `env`, and that the light ones import no torch."""

import json
import subprocess
import sys

import pytest
import torch

from backbone_kit import BACKBONES, __version__
from backbone_kit.cli import main
from backbone_kit.layers import NORM_LAYERS


def test_list_has_every_name_with_its_arguments(run):
    listed = json.loads(run("list", "--json").out)
    assert {entry["name"] for entry in listed["backbones"]} == set(BACKBONES)
    assert {entry["name"] for entry in listed["norms"]} == set(NORM_LAYERS)
    resnet = next(entry for entry in listed["backbones"] if entry["name"] == "ResNet")
    assert {"depth", "in_channels=3", "style='pytorch'"} <= set(resnet["arguments"])
    assert all(entry["summary"] for entries in listed.values() for entry in entries)


def test_list_of_one_kind(run):
    out = run("list", "plugins").out
    assert "ContextBlock" in out
    assert "ResNet" not in out.split()
    assert run("list", "plugin").code == 2


def test_explain_names_file_and_line(run, config):
    path = config()
    assert f"set by {path}:2" in run("explain", path, "depth").out
    changed = run("explain", path, "depth", "--cfg-options", "depth=34").out
    assert changed == f"depth = 34\n  set by --cfg-options\n  replaced 18, set by {path}:2\n"
    assert "did you mean 'depth'" in run("explain", path, "dept").err


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"backbone-kit {__version__}\n"


def test_env_has_the_versions(run):
    facts = json.loads(run("env", "--json").out)
    assert facts["torch"] == torch.__version__
    assert set(facts) >= {"python", "backbone_kit", "torchvision", "mmengine"}


@pytest.mark.parametrize("argv", [["explain", "{cfg}", "depth"], ["--help"]], ids=["explain", "help"])
def test_light_commands_import_no_torch(config, argv):
    argv = [argument.format(cfg=config()) for argument in argv]
    script = (
        "import sys; from backbone_kit.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
