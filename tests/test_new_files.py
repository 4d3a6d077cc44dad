"""What a new file needs beside itself: nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYER = """
from torch import Tensor, nn

from .plugin import PLUGIN_LAYERS


@PLUGIN_LAYERS.register_module()
class Doubled(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x
"""

BACKBONE = """
from typing import Any

from torch import nn

from ..layers import PluginCfg, build_plugin_layer
from .base import BACKBONES, Backbone


@BACKBONES.register_module()
class Toy(Backbone):
    def __init__(self, width: int, plugin: PluginCfg, **kwargs: Any) -> None:
        super().__init__(num_stages=2, **kwargs)
        self.add_stem(nn.Conv2d(3, width, 2, stride=2), channels=width, stride=2)
        self.add_pool(nn.MaxPool2d(2), stride=4)
        for index in range(self.stages_to_build):
            stage = build_plugin_layer(plugin, in_channels=width)[1]
            self.add_stage(f"stage{index + 1}", stage, channels=width, stride=4)
"""

USE = """
import torch
from backbone_kit import build_backbone, list_backbones

assert list_backbones("toy*") == ["toy"]
net = build_backbone("toy", width=4)
stem, *maps = net.forward_intermediates(torch.ones(1, 3, 8, 8)).values()
assert [name for name, _ in net.named_children()] == ["stem", "pool", "stage1", "stage2"]
assert torch.equal(maps[1], 4 * torch.max_pool2d(stem, 2))
"""


@pytest.mark.slow
def test_a_layer_a_backbone_and_a_config_are_found_by_themselves(tmp_path: Path) -> None:
    package = tmp_path / "backbone_kit"
    shutil.copytree(ROOT / "backbone_kit", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "layers" / "doubled.py").write_text(LAYER)
    (package / "backbones" / "toy.py").write_text(BACKBONE)
    config = tmp_path / "configs" / "toys" / "toy.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("{type: Toy, width: 8, plugin: {type: Doubled}}")
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
