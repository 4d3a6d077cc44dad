"""What is frozen stays so, what is freed trains, and the table says which."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from backbone_kit import ConfigError, build_backbone
from backbone_kit.finetune import freeze, unfreeze, what_trains
from backbone_kit.heads import ClassifierHead
from tests.adapters.training import loaded


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def in_train(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if module.training}


@pytest.mark.parametrize("stages", [0, 1, 4])
def test_stages_are_frozen_as_frozen_stages_does(stages: int) -> None:
    asked = build_backbone("resnet18", frozen_stages=stages).train()
    frozen = freeze(build_backbone("resnet18"), stages=stages).train()
    assert trained(frozen) == trained(asked)
    assert in_train(frozen) == in_train(asked)
    assert freeze(frozen, stages=0).frozen_stages == stages  # what is frozen stays so


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_stages_are_freed_from_the_end(stages: int) -> None:
    net = unfreeze(build_backbone("resnet18", frozen_stages=4), stages=stages).train()
    asked = build_backbone("resnet18", frozen_stages=stages - 1).train()
    assert (trained(net), in_train(net)) == (trained(asked), in_train(asked))


def test_a_class_token_freezes_with_the_stem() -> None:
    cfg = dict(type="TimmBackbone", model_name="vit_tiny_patch16_224")
    with torch.device("meta"):
        net, asked = build_backbone(cfg), build_backbone(cfg, frozen_stages=3)
    assert not trained(asked) | trained(freeze(net, stages=3))
    tokens = {f"whole.model.{name}" for name in ("cls_token", "pos_embed")}
    with pytest.raises(ConfigError, match="frozen_stages=3 freezes some of it"):
        unfreeze(net, "*_token")
    assert trained(unfreeze(net, stages=1)) == {name for name, _ in net.named_parameters()} - tokens
    assert "in no part      38,016          0" in what_trains(net)
    assert trained(unfreeze(net, stages=0)) >= tokens


def test_what_is_named_stays_as_it_is_through_train() -> None:
    model = freeze(ClassifierHead(loaded(frozen_stages=-1), 3), "backbone.layer1", "*.layer2.*.bn?", "fc.bias")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for copied in (model, copy.deepcopy(model)):
        copied.eval().train()
        copied(torch.rand(2, 3, 64, 64)).square().sum().backward()
        torch.optim.SGD(copied.parameters(), 0.1).step()
        same = {name for name, value in copied.state_dict().items() if torch.equal(value, before[name])}
        kept = ("backbone.layer1.", "backbone.layer2.0.bn", "backbone.layer2.1.bn", "fc.bias")
        assert {name for name in before if name.startswith(kept)} <= same
        assert not {"backbone.layer3.0.bn1.running_mean", "backbone.conv1.weight", "fc.weight"} & same
    assert model.training
    assert not model.backbone.layer1.training


def test_part_of_what_is_frozen_can_be_freed() -> None:
    net = unfreeze(freeze(build_backbone("resnet18"), "layer*"), "layer4.1.bn*").train()
    assert {name for name in trained(net) if name.startswith("layer")} == {
        f"layer4.1.bn{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
    }
    assert {name for name in in_train(net) if "bn" in name} == {"bn1", "layer4.1.bn1", "layer4.1.bn2"}


def test_everything_there_and_back() -> None:
    net = build_backbone("resnet18", frozen_stages=1)
    assert trained(freeze(net)) == set()
    assert in_train(net.train()) == {""}
    whole = build_backbone("resnet18").train()
    assert (trained(unfreeze(net)), in_train(net.train())) == (trained(whole), in_train(whole))


@pytest.mark.slow
def test_a_frozen_net_compiles() -> None:
    net = freeze(loaded(frozen_stages=-1), "layer1").train()
    picture = torch.rand(2, 3, 64, 64)
    expected = net(picture)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(picture), expected)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda net: freeze(net, "layr1"), "patterns: nothing is called 'layr1'; did you mean 'layer1'"),
        (
            lambda net: freeze(net, ["layer1"]),
            r"patterns: must be names, each an argument of its own, got \['layer1'\]",
        ),
        (lambda net: freeze(net, 3), "patterns: must be names, each an argument of its own, got 3"),
        (lambda net: freeze(net, stages="1"), "stages: must be an int or None, got '1'"),
        (lambda net: unfreeze(net, stages=True), "stages: must be an int or None, got True"),
        (lambda net: freeze(net, stages=5), r"stages: must be from 0 \(the stem\) to 4, got 5"),
        (lambda net: unfreeze(net, stages=-1), r"stages: must be from 0 \(the stem\) to 4, got -1"),
        (lambda net: unfreeze(net, "layer1.0.bn1"), "patterns: frozen_stages=2 freezes some of it; .* k up to 2"),
        (lambda net: freeze(net.layer3, stages=1), "stages: the model holds no backbone"),
    ],
)
def test_a_mistake_is_refused_and_changes_nothing(act, message: str) -> None:
    net = build_backbone("resnet18", frozen_stages=2)
    before = trained(net)
    with pytest.raises(ConfigError, match=message):
        act(net)
    assert trained(net) == before


def test_the_table_goes_through_what_holds_a_backbone() -> None:
    model = nn.ModuleDict(
        dict(net=ClassifierHead(build_backbone("resnet18", frozen_stages=0), 10), neck=nn.Linear(4, 2))
    )
    rows = {line.split()[0]: line.split()[1:] for line in what_trains(model.train()).splitlines()}
    assert rows["net.backbone.stem"] == ["9,536", "0", "1", "fixed"]
    assert rows["net.backbone.layer1"] == ["147,968", "147,968", "4"]
    assert rows["net.fc"] == ["5,130", "5,130"]
    assert rows["neck"] == ["10", "10"]
    assert rows["total"] == ["11,181,652", "11,172,116"]


def test_the_table_has_what_is_directly_in_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model.scale = nn.Parameter(torch.ones(3))
    rows = [line.split() for line in what_trains(model).splitlines()[1:]]
    assert rows == [["Sequential", "3", "3"], ["0", "6", "6"], ["total", "9", "9"]]
