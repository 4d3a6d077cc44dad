"""The zoo page tells the truth about every name, and has the parity of each."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from backbone_kit import list_backbones

from .composed import COMPOSED

ROOT = Path(__file__).parent.parent
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "update_zoo.py"))
TRIED = [name for name in COMPOSED if not any(size in name for size in ("101", "152", "small", "base"))]
QUICK = ("resnet18_d8", "resnet18_v1c_d16", "resnet50_caffe_c4", "resnet50_se", "ghost_resnet50", "trident_resnet50")
ROWS: dict[str, dict[str, Any]] = json.loads((ROOT / "configs" / "zoo.json").read_text())


def test_the_page_is_the_data() -> None:
    assert (ROOT / "docs" / "zoo.md").read_text() == TOOL["rendered"](ROWS), "run python tools/update_zoo.py"


def test_every_name_has_a_row() -> None:
    assert list(ROWS) == list_backbones(), "run python tools/update_zoo.py"


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_its_own_parity(name: str) -> None:
    row = ROWS[name]
    assert "as" not in row  # no other net in its place
    assert row["against"].startswith(("timm ", "torchvision ", "resnest ", "mmdet ", "mmseg ", "mmpretrain "))
    # Standardised weights under GroupNorm and norms without a mean amplify rounding.
    assert row["difference"] < (5e-3 if "gn_ws" in name or name.endswith(("_bit", "_frn")) else 1e-4)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if len(n) > 8 else n for n in ROWS])
def test_sizes_costs_and_levels_are_those_of_the_net(name: str) -> None:
    found = TOOL["facts"](name)
    assert found == {key: ROWS[name][key] for key in found}


def test_accuracies_are_those_of_the_weights_beside_them() -> None:
    told = {name: (row["top1"], row["weights"]) for name, row in ROWS.items() if "top1" in row}
    assert told["resnet50"] == (76.13, "torchvision://resnet50.IMAGENET1K_V1")
    for name, (top1, weights) in told.items():
        assert TOOL["accuracy"](name) == {"top1": top1, "weights": weights}


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TRIED])
def test_nets_equal_those_put_together_from_other_libraries(name: str) -> None:
    with torch.no_grad():
        assert TOOL["with_composed"](name)["difference"] < 1e-5
