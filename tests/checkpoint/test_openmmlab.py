"""Weights under mmpretrain's and MMSegmentation's names give their figures here, and get their names back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backbone_kit import BACKBONES, build_backbone, convert_state_dict, from_openmmlab, load_checkpoint

from ..golden import cases, difference, picture, value_of

CASES = [case for case in cases("openmmlab_layouts") if case["cfg"]["type"] in BACKBONES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['source']}-{case['cfg']['type']}")
def test_equal_to_openmmlab_and_named_back(case: dict[str, Any]) -> None:
    net = build_backbone(from_openmmlab(case["cfg"], source=case["source"]))
    weights = {key: value_of(key, tuple(shape)).clone() for key, shape in case["keys"].items()}
    report = load_checkpoint(net, weights)
    assert (report.missing, report.optional, report.new, report.unexpected) == ((), (), (), ())
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert max(map(difference, outputs, case["outputs"])) < 1e-4
    back = convert_state_dict(net.state_dict(), source="mmdet", target=case["source"])
    assert set(back) == set(case["keys"])
    assert all(torch.equal(back[key], weights[key]) for key in weights)


def test_a_classifier_of_mmpretrain_has_a_prefix_and_a_head() -> None:
    weights = build_backbone("resnet18_v1d").state_dict()
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    theirs = convert_state_dict({**weights, **head}, target="mmpretrain")
    assert "backbone.stem.0.conv.weight" in theirs
    assert "backbone.layer2.0.downsample.1.weight" in theirs
    assert "head.fc.bias" in theirs
    assert set(convert_state_dict(theirs)) == {*weights, *head}
    assert load_checkpoint(build_backbone("resnet18_v1d"), theirs).left_aside == {"head.fc": 2}


@pytest.mark.parametrize(("strides", "without"), [((1, 2, 2, 1), (1, 4)), ((1, 2, 1, 1), (1, 3, 4))])
def test_dilated_stages_of_mmpretrain_have_no_pool(strides: tuple[int, ...], without: tuple[int, ...]) -> None:
    cfg = dict(type="ResNetV1d", depth=18, strides=strides)
    weights = build_backbone(cfg).state_dict()
    theirs = convert_state_dict(weights, target="mmpretrain")
    for key in list(theirs):  # converted as if nothing were dilated
        start, pool, rest = key.partition(".downsample.")
        if pool and int(start[5]) in without[1:]:
            place, _, name = rest.partition(".")
            theirs[f"{start}{pool}{int(place) - 1}.{name}"] = theirs.pop(key)
    net = build_backbone(cfg)
    load_checkpoint(net, theirs)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    ours = convert_state_dict(theirs)
    assert all(torch.equal(ours[key], weights[key]) for key in weights)
