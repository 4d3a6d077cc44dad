"""What is not served is told, by group, and refused where it matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from timm.models._manipulate import adapt_input_conv
from torch import nn

from backbone_kit import CheckpointError, load_checkpoint
from backbone_kit.backbones import ResNet


def small(depth: int = 18, **options: Any) -> ResNet:
    return ResNet(depth, base_channels=8, zero_init_residual=False, **{"num_stages": 2, **options})


def test_the_report_opens_with_the_verdict() -> None:
    net = small()
    weights = {f"backbone.{key}": value for key, value in small().state_dict().items()}
    others = ["neck.a", "neck.b", "rpn_head.c", "roi_head.bbox_head.d"]
    report = load_checkpoint(net, {**weights, **{key: torch.zeros(1) for key in others}})
    count = len(net.state_dict())
    assert report.verdict == f"{count} of {count} served · 0 renamed · left aside: neck 2, rpn_head 1, roi_head 1"
    assert report.details().splitlines()[1:] == [
        "layout       own, behind 'backbone.'",
        "matched      conv1 1, bn1 5, layer1 24, layer2 30",
    ]


def test_what_else_a_checkpoint_holds_is_said_not_to_be_read() -> None:
    checkpoint = {"state_dict": small().state_dict(), "optimizer": {}, "meta": {"epoch": 12}}
    report = load_checkpoint(small(), checkpoint)
    assert report.not_read == ("optimizer", "meta")
    assert report.verdict.endswith("left aside: nothing · optimizer, meta not read")


def test_averages_that_lie_beside_the_net_are_one_part() -> None:
    weights = small().state_dict()
    averages = {f"ema_backbone_{key.replace('.', '_')}": value for key, value in weights.items()}
    report = load_checkpoint(small(), {**{f"backbone.{key}": value for key, value in weights.items()}, **averages})
    assert report.left_aside == {"ema": len(averages)}


def test_a_config_can_ask_for_another_stem(tmp_path: Path) -> None:
    weights = small().state_dict()
    torch.save(weights, tmp_path / "a.pth")
    net = small(in_channels=1, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "a.pth"), adapt_stem="sum"))
    net.init_weights()
    torch.testing.assert_close(net.conv1.weight.data, weights["conv1.weight"].sum(1, keepdim=True))


def test_stages_that_the_model_does_not_have_are_left_aside() -> None:
    report = load_checkpoint(small(), {**small(num_stages=4).state_dict(), "fc.weight": torch.zeros(1)})
    assert report.left_aside == {"layer3": 30, "layer4": 30, "fc": 1}


def test_a_deeper_nets_checkpoint_is_refused() -> None:
    net = small(18)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = small(34).state_dict()
    with pytest.raises(
        CheckpointError, match=r"has 36 more inside the backbone: layer1\.2\.conv1\.weight, .*deeper net"
    ):
        load_checkpoint(net, weights)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    report = load_checkpoint(net, weights, strict=False)
    assert len(report.unexpected) == 36
    assert torch.equal(net.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])


def test_other_shapes_are_refused_and_left_out_when_not_strict() -> None:
    weights = small().state_dict()
    weights["layer2.1.conv2.weight"] = torch.zeros(1, 2)
    with pytest.raises(CheckpointError, match=r"layer2\.1\.conv2\.weight is \(1, 2\) there, \(16, 16, 3, 3\) here"):
        load_checkpoint(small(), weights)
    report = load_checkpoint(small(), weights, strict=False)
    assert report.wrong_shape == {"layer2.1.conv2.weight": ((1, 2), (16, 16, 3, 3))}
    assert report.verdict.startswith(f"{len(weights) - 1} of {len(weights)} served · 0 renamed · 1 of another shape")


class Gate(nn.Module):
    """A plugin: new to every pretrained net."""

    brings_new: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(8, 8, 1)

    def init_weights(self) -> None:
        nn.init.constant_(self.scale.weight, 0.5)
        nn.init.zeros_(self.scale.bias)


class Moved(nn.Conv2d):
    """A convolution with something new beside its kernel."""

    brings_new: ClassVar[tuple[str, ...]] = ("offset",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.offset = nn.Conv2d(8, 2, 3)

    def init_weights(self) -> None:
        self.reset_parameters()
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)


def with_new_layers() -> ResNet:
    net = small()
    net.layer1[0].add_module("gate", Gate())
    net.layer1[1].conv2 = Moved(8, 8, 3, 1, 1)
    net.layer1[1].conv2.bias = None
    return net


def test_layers_that_are_new_on_purpose_are_a_group_of_their_own() -> None:
    weights = small().state_dict()
    net = with_new_layers()
    report = load_checkpoint(net, weights)
    assert report.new == (
        "layer1.0.gate.scale.weight",
        "layer1.0.gate.scale.bias",
        "layer1.1.conv2.offset.weight",
        "layer1.1.conv2.offset.bias",
    )
    count = len(weights)
    assert f"{count} of {count} served · 0 renamed · new: 4 keys, initialised by Gate, Moved" in report.verdict
    again = load_checkpoint(with_new_layers(), net.state_dict())
    assert (again.new, len(again.matched)) == ((), count + 4)


def test_new_layers_without_memory_are_initialised_by_themselves() -> None:
    weights = small().state_dict()
    with torch.device("meta"):
        net = with_new_layers()
    load_checkpoint(net, weights)
    assert torch.equal(net.layer1[1].conv2.weight, weights["layer1.1.conv2.weight"])
    assert (net.layer1[0].gate.scale.weight == 0.5).all()
    assert not net.layer1[1].conv2.offset.weight.any()
    assert not any(value.is_meta for value in net.state_dict().values())


@pytest.mark.parametrize("name", ["momentum_encoder", "module.encoder_k", "ema"])
def test_a_copy_that_follows_the_net_is_not_taken_for_it(name: str) -> None:
    net, follower = small().state_dict(), small().state_dict()
    main = name.replace("_k", "_q") if "_k" in name else "encoder"
    file = {f"{name}.{key}": value for key, value in follower.items()}
    file |= {f"{main}.{key}": value for key, value in net.items()}
    model = small()
    assert load_checkpoint(model, file).prefix == f"{main}."
    assert torch.equal(model.conv1.weight, net["conv1.weight"])


@pytest.mark.parametrize(("channels", "how"), [(1, "sum"), (4, "repeat"), (6, "repeat")])
def test_a_stem_takes_other_channels_only_when_asked(channels: int, how: Any) -> None:
    weights = small().state_dict()
    net = small(in_channels=channels)
    with pytest.raises(CheckpointError, match=rf"conv1\.weight is \(8, 3, 7, 7\) there.*pass adapt_stem='{how}'"):
        load_checkpoint(net, weights)
    load_checkpoint(net, weights, adapt_stem=how)
    torch.testing.assert_close(net.conv1.weight.data, adapt_input_conv(channels, weights["conv1.weight"]))
    assert torch.equal(net.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])


def test_a_sum_is_for_one_channel_and_repeating_for_more() -> None:
    with pytest.raises(CheckpointError, match=r"\(8, 3, 7, 7\) there, \(8, 4, 7, 7\) here.*adapt_stem='repeat'"):
        load_checkpoint(small(in_channels=4), small().state_dict(), adapt_stem="sum")
    with pytest.raises(CheckpointError, match=r"\(8, 3, 7, 7\) there, \(8, 1, 7, 7\) here.*adapt_stem='sum'"):
        load_checkpoint(small(in_channels=1), small().state_dict(), adapt_stem="repeat")
    with pytest.raises(CheckpointError, match="adapt_stem must be 'sum', 'repeat' or None, got 'mean'"):
        load_checkpoint(small(in_channels=4), small().state_dict(), adapt_stem="mean")  # type: ignore[arg-type]
