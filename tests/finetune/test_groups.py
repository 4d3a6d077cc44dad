"""Parameter groups: learning rates by block, weight decay only where it is meant."""

from __future__ import annotations

from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from backbone_kit import ConfigError, build_backbone
from backbone_kit.finetune import param_groups
from backbone_kit.heads import ClassifierHead


def by_name(model: nn.Module, groups: list[dict], rate: str) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (group[rate], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", ["resnet18", "resnet50d"])
def test_rates_are_timms(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name)
        ours = ClassifierHead(build_backbone(name))
    expected = by_name(theirs, param_groups_layer_decay(theirs, weight_decay=0.1, layer_decay=0.75), "lr_scale")
    rates = by_name(ours, param_groups(ours, 1.0, weight_decay=0.1, layer_decay=0.75), "lr")
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]  # one order, two names
    for (name, _), (their_name, _) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert rates[name] == pytest.approx(expected[their_name])


@pytest.mark.parametrize("name", ["convnext_atto", "hrnet_w18", "ghostnet_050", "vgg11_bn"])
def test_rates_rise_from_the_stem_to_the_last_block(name: str) -> None:
    with torch.device("meta"):
        net = build_backbone(name)
    rates = by_name(net, param_groups(net, 1.0, layer_decay=0.5), "lr")
    assert rates.keys() == dict(net.named_parameters()).keys()
    per_part = [
        {rates[f"{module}.{n}"][0] for module in part.modules for n, _ in net.get_submodule(module).named_parameters()}
        for part in net.parts
    ]
    per_part = [part for part in per_part if part]
    assert all(max(before) <= min(after) for before, after in pairwise(per_part))
    assert max(per_part[-1]) == 0.5
    assert len({rate for part in per_part for rate in part}) >= len(net.stage_names)


def test_rates_of_a_transformer_are_timms() -> None:
    name = "vit_tiny_patch16_224"
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0)
        ours = build_backbone(dict(type="TimmBackbone", model_name=name))
    expected = by_name(theirs, param_groups_layer_decay(theirs, layer_decay=0.5), "lr_scale")
    for key, (rate, _) in by_name(ours, param_groups(ours, 2.0, layer_decay=0.5), "lr").items():
        assert rate == pytest.approx(expected[key.removeprefix("whole.model.")][0])  # its last norm goes with our head


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "ghostnet_050", "timm_test_convnext"])
def test_every_block_has_a_rate_of_its_own(name: str) -> None:
    with torch.device("meta"):
        net = build_backbone(name)
    rates = {rate for rate, _ in by_name(net, param_groups(net, 1.0, layer_decay=0.5), "lr").values()}
    assert len(rates) == 1 + sum(part["blocks"] for part in net.describe())


def test_norms_biases_and_what_is_named_do_not_decay() -> None:
    model = ClassifierHead(build_backbone("resnet18"), num_classes=3)
    decays = {n: wd for n, (_, wd) in by_name(model, param_groups(model, 0.1, no_decay=("*.layer4.*",)), "lr").items()}
    assert decays["backbone.layer1.0.conv1.weight"] == decays["fc.weight"] == 0.05
    assert {decays[n] for n in ("backbone.bn1.weight", "fc.bias", "backbone.layer4.0.conv1.weight")} == {0.0}


def test_what_is_frozen_is_in_no_group_and_an_optimizer_takes_the_rest() -> None:
    net = build_backbone("resnet18", frozen_stages=2)
    groups = param_groups(net, 0.1, layer_decay=0.5)
    torch.optim.AdamW(groups)
    assert set(by_name(net, groups, "lr")) == {n for n, p in net.named_parameters() if p.requires_grad}
    assert len(param_groups(net, 0.1)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(model="resnet18", lr=1), "model: must be a torch.nn.Module, got a str"),
        (dict(lr=0), "lr: must be over 0, got 0"),
        (dict(lr=float("inf")), "lr: must be over 0, got inf"),
        (dict(lr="0.1"), r"lr: must be a number, got '0.1' \(str\)"),
        (dict(lr=1, weight_decay=None), "weight_decay: must be a number, got None"),
        (dict(lr=1, no_decay="fc"), r"no_decay: must be a list \(a string each\), got 'fc'"),
        (dict(lr=1, weight_decay=-1), "weight_decay: must be 0 or more, got -1"),
        (dict(lr=1, layer_decay=1.5), "layer_decay: must be over 0 and up to 1, got 1.5"),
        (dict(lr=1, no_decay=("layer1.0.conv1.weigth",)), "did you mean 'layer1.0.conv1.weight'"),
    ],
)
def test_a_mistake_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        param_groups(**{"model": build_backbone("resnet18"), **arguments})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing of the model trains"):
        param_groups(build_backbone("resnet18", frozen_stages=4), 0.1)
