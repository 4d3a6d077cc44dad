"""Our backbones where timm's `features_only` nets go."""

from __future__ import annotations

import pytest
import timm
import torch

from backbone_kit import build_backbone
from backbone_kit.adapters import as_timm

from .training import loaded, one_step


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnext50_32x4d", "convnext_atto"])
def test_feature_info_is_timms(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1)).feature_info
        ours = as_timm(build_backbone(name)).feature_info
    assert (ours.channels(), ours.reduction()) == (theirs.channels(), theirs.reduction())
    assert isinstance(ours, type(theirs))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "hrnet_w18"])
def test_maps_are_what_feature_info_says(name: str) -> None:
    model = as_timm(build_backbone(name, out_indices=(3, 1))).eval()
    maps = model(torch.rand(1, 3, 64, 64))
    assert isinstance(maps, list)
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [64 // m.shape[2] for m in maps] == model.feature_info.reduction()
    assert all(model.get_submodule(module) for module in model.feature_info.module_name())


def test_module_names_give_the_maps() -> None:
    model = as_timm(build_backbone("convnext_atto")).eval()
    seen = {}
    for module in model.feature_info.module_name():
        model.get_submodule(module).register_forward_hook(lambda _, __, y, name=module: seen.update({name: y}))
    maps = model(torch.rand(1, 3, 64, 64))
    assert all(torch.equal(seen[name], y) for name, y in zip(model.feature_info.module_name(), maps))


def test_it_trains() -> None:
    model = as_timm(loaded())
    one_step(model, model.body, lambda: sum(m.square().mean() for m in model(torch.rand(2, 3, 64, 64))))
