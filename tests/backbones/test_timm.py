"""A name that timm has is timm's net: equal at every level, on timm's own weights."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import Tensor

from backbone_kit import build_backbone, list_backbones
from backbone_kit.backbones import Backbone
from backbone_kit.names import named_config

from ..undrawn import cheaply, undrawn
from .test_peers import randomized, relative_difference

RESNETS = timm.list_models(module="resnet", exclude_filters="*_pruned")
FAST = ("resnet10t", "resnetaa34d", "resnetblur18", "seresnet18", "ecaresnetlight", "test_resnet", "res2next50")
KINDS = ("ResNet", "ResNeXt", "Res2Net")
NAMES = [
    name
    for name in list_backbones()
    if timm.is_model(name) and named_config(name)["type"] in KINDS and not name.endswith("_gn")
]


def renamed(state: dict[str, Tensor], net: Backbone) -> dict[str, Tensor]:
    """timm's state dict under our keys."""
    deep = any(key.startswith("conv1.0.") for key in state)
    plugins = {name for module in net.modules() for name in getattr(module, "plugin_names", ())}
    rules = [(r"^conv1\.", "stem."), (r"^bn1\.", "stem.7.")] if deep else []
    for plugin in plugins:
        rules += [(r"\.se\.fc([12])\.", rf".{plugin}.conv\1.conv."), (r"\.se\.conv\.", f".{plugin}.conv.")]
    found = {}
    for key, value in state.items():
        for pattern, ours in rules:
            key = re.sub(pattern, ours, key)
        found[key] = value
    return {key: value for key, value in found.items() if not key.startswith("fc.")}


def test_every_resnet_of_timm_has_its_name() -> None:
    assert set(RESNETS) <= set(list_backbones())


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
@torch.no_grad()
def test_equals_timm(name: str) -> None:
    peer = randomized(cheaply(timm.create_model, name, num_classes=0))
    with undrawn():
        net = build_backbone(name)
    net.load_state_dict(renamed(peer.state_dict(), net))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    levels = peer.forward_intermediates(x, intermediates_only=True)[1:]
    assert relative_difference(net.eval()(x), levels) < 1e-5
    assert torch.equal(levels[-1], peer.forward_features(x))


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        ("resnet18", 8),
        ("resnet34d", 16),
        ("resnet50d", 8),
        ("resnetaa50", 16),
        ("resnetblur18", 8),
        ("resnext50_32x4d", 8),
    ],
)
@torch.no_grad()
def test_output_stride_is_timms(name: str, output_stride: int) -> None:
    peer = randomized(timm.create_model(name, num_classes=0, output_stride=output_stride))
    overrides = {"strides": None, "dilations": None}
    net = build_backbone(name, output_stride=output_stride, **overrides)
    net.load_state_dict(renamed(peer.state_dict(), net))
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert net.out_strides[-1] == output_stride
    assert relative_difference(net.eval()(x), peer.forward_intermediates(x, intermediates_only=True)[1:]) < 1e-5


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_drop_path_grows_as_timms(rate: float) -> None:
    ours = build_backbone("resnet26", drop_path_rate=rate)
    theirs = timm.create_model("resnet26", drop_path_rate=rate)
    for i in range(1, 5):
        for block, peer in zip(ours.get_submodule(f"layer{i}"), theirs.get_submodule(f"layer{i}")):
            assert (block.drop_path.drop_prob if block.drop_path else 0.0) == pytest.approx(
                getattr(peer.drop_path, "drop_prob", 0.0)
            )
