"""Our nets compute what OpenMMLab's compute, from the same dicts and the same weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import BACKBONES, build_from_cfg, from_openmmlab

from ..golden import cases, difference, fill, picture
from ..undrawn import undrawn

FILES = ("mmdet_resnet", "openmmlab_residual", "mmpretrain_se_resnet", "openmmlab_resnest")
CASES = [case for name in FILES for case in cases(name)]
FAST = (0, 1, 3, 9, 11, 43, 44, 45, 46, 47, 48, 88, 94, 97, 111, 125, 127, 130, 134)


def _cases() -> list[Any]:
    ids = [f"{case['source']}-{i}-{case['cfg']['type']}{case['cfg']['depth']}" for i, case in enumerate(CASES)]
    marks = [() if i in FAST else pytest.mark.slow for i in range(len(CASES))]
    return [pytest.param(case, id=name, marks=mark) for case, name, mark in zip(CASES, ids, marks)]


def _here(key: str) -> str:
    """A key of mmpretrain's ResNet-D: its stem has blocks, and its shortcuts a pool only where they have a stride."""
    key = re.sub(r"^stem\.(\d)\.(conv|bn)", lambda m: f"stem.{3 * int(m[1]) + (m[2] == 'bn')}", key)
    return re.sub(r"^layer1\.0\.downsample\.(\d)", lambda m: f"layer1.0.downsample.{int(m[1]) + 1}", key)


@pytest.mark.filterwarnings("ignore:.*deformable_groups")
@pytest.mark.parametrize("case", _cases())
def test_equal_to_openmmlab(case: dict[str, Any]) -> None:
    with undrawn():
        net = build_from_cfg(from_openmmlab(case["cfg"], case["source"].removesuffix("_options")), BACKBONES)

    here: Any = _here if "stem.0.conv.weight" in case["keys"] else str

    assert {key: list(value.shape) for key, value in net.state_dict().items()} == {
        here(key): shape for key, shape in case["keys"].items()
    }
    assert list(net.state_dict()) == [here(key) for key in case["keys"]]
    assert sum(p.numel() for p in net.parameters()) == case["n_params"]
    frozen = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    assert sorted(frozen) == sorted(map(here, case["frozen_params"]))
    training = [name for name, m in net.train().named_modules() if isinstance(m, _BatchNorm) and m.training]
    assert sorted(training) == sorted(map(here, case["batchnorms_in_train_mode"]))

    fill(net, {here(key): key for key in case["keys"]})
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    # Standardised weights under GroupNorm amplify float32's rounding: our own float64 differs from our float32 by 1e-3.
    tolerance = 5e-3 if case["cfg"].get("conv_cfg") else 1e-4
    assert max(map(difference, outputs, case["outputs"])) < tolerance
