"""What a config says of a plugin beside its own arguments: its name in a block, and what it calls the channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_kit import CheckpointError, ConfigError, build_backbone
from backbone_kit.backbones import ResNet
from backbone_kit.checkpoint import load_checkpoint
from backbone_kit.layers import PLUGIN_LAYERS, SELayer, build_plugin_layer


class Gate(nn.Module):
    """As from another code base."""

    def __init__(self, gate_channels, reduction_ratio=16):  # no annotations, as most have it
        super().__init__()
        self.scale = nn.Parameter(torch.full((gate_channels, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Named(Gate):
    def __init__(self, dim: int = 64, axis: int = 1) -> None:
        super().__init__(dim)


class Odd(Gate):
    def __init__(self, c, k: int = 3) -> None:
        super().__init__(c)


class Drop(nn.Module):
    def __init__(self, prob, **kwargs: Any) -> None:
        super().__init__()
        self.kwargs = kwargs


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        (Gate, {}, "gate_channels"),
        (Gate, {"reduction_ratio": 4}, "gate_channels"),
        (Named, {}, "dim"),
        (Odd, {}, "c"),
        (nn.BatchNorm2d, {}, "num_features"),
    ],
)
def test_another_name_of_the_channels_is_refused_with_a_cure_that_works(
    kind: Any, arguments: dict[str, Any], name: str
) -> None:
    cfg = {"type": kind, **arguments}
    reason = f"{kind.__name__} takes no 'in_channels'; if '{name}' is the channels of the map, add width_arg='{name}'"
    with pytest.raises(ConfigError, match=reason) as caught:
        build_plugin_layer(cfg, in_channels=24)
    assert len(caught.value.problems) == 1
    _, layer = build_plugin_layer({**cfg, "width_arg": name}, in_channels=24)
    assert next(layer.parameters()).numel() == 24


def test_the_cure_works_in_a_whole_net_at_every_width() -> None:
    entry = {"cfg": {"type": Gate, "width_arg": "gate_channels", "postfix": 1}, "position": "after_conv2"}
    with pytest.raises(ConfigError, match=r"plugins\[0\]\.cfg: Gate takes no 'in_channels'"):
        build_backbone({"type": "ResNet", "depth": 18, "plugins": [{**entry, "cfg": {"type": Gate}}]})
    net = ResNet(18, plugins=[entry])  # type: ignore[list-item]
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    assert [stage[0].gate1.scale.numel() for stage in stages] == [64, 128, 256, 512]


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": Gate, "width_arg": "gate_chanels"}, "width_arg: Gate has no argument 'gate_chanels'; did you mean"),
        ({"type": Gate, "width_arg": 3}, "width_arg: must be a string or None, got 3"),
        ({"type": Gate, "width_arg": "gate_channels", "gate_channels": 8}, "gate_channels: is set by the layer that"),
        ({"type": Gate, "gate_channels": 8}, "add width_arg='gate_channels' and remove 'gate_channels'"),
        ({"type": Gate, "width_arg": "gate_channels", "ratio": 4}, "ratio: Gate has no argument 'ratio'"),
        ({"type": "SELayer", "width_arg": "channels"}, "width_arg: SELayer has no argument 'channels'"),
        ({"type": "SELayer", "in_channels": 8}, "in_channels: is set by the layer that uses this plugin, to 24"),
        ({"type": "SELayr"}, "type: unknown plugin 'SELayr'; did you mean 'SELayer'"),
        (
            {"type": "ConvModule", "out_channels": 8, "kernel_size": 1},
            r"out_channels: .*channels of its map \(=24\), got 8",
        ),
        ("SELayer", "must be a dict with 'type'"),
    ],
)
def test_mistakes_are_told(cfg: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(cfg, in_channels=24)


def test_a_plugin_may_take_no_channels() -> None:
    assert isinstance(build_plugin_layer({"type": nn.MaxPool2d, "kernel_size": 1}, in_channels=24)[1], nn.MaxPool2d)
    softmax = {"type": nn.Softmax, "dim": 1}
    with pytest.raises(ConfigError, match="add width_arg='dim' and remove 'dim', otherwise width_arg=None"):
        build_plugin_layer(softmax, in_channels=24)
    assert build_plugin_layer({**softmax, "width_arg": None}, in_channels=24)[1].dim == 1


def test_one_that_takes_anything_gets_the_channels() -> None:
    assert build_plugin_layer({"type": Drop, "prob": 0.1}, in_channels=24)[1].kwargs == {"in_channels": 24}


def test_short_names_of_timm_are_names() -> None:
    for name in ("se", "eca", "cbam", "sk"):
        assert name in PLUGIN_LAYERS
    assert isinstance(build_plugin_layer({"type": "se"}, in_channels=24)[1], SELayer)


def test_what_is_built_as_a_plugin_is_marked_as_new_and_nothing_else() -> None:
    net = ResNet(
        18, plugins=[{"cfg": {"type": "SELayer"}, "position": "after_conv2", "stages": (True, False, False, False)}]
    )
    marked = [name for name, module in net.named_modules() if getattr(module, "brings_new", False)]
    assert marked == ["layer1.0.se_layer", "layer1.1.se_layer"]
    assert not getattr(SELayer(8), "brings_new", False)


def test_a_net_with_plugins_takes_the_weights_of_one_without() -> None:
    entries = [{"cfg": {"type": kind}, "position": "after_conv2"} for kind in ("SELayer", "eca")]
    net = ResNet(18, plugins=entries)  # type: ignore[arg-type]
    report = load_checkpoint(net, ResNet(18).state_dict())
    assert not report.missing
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight"):
        load_checkpoint(net, {k: v for k, v in ResNet(18).state_dict().items() if k != "layer1.0.conv1.weight"})
