"""One kind of norm for another, and nothing else changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbone_kit import ConfigError, build_backbone
from backbone_kit.finetune import convert_norms, freeze, unfreeze
from backbone_kit.layers import FrozenBatchNorm2d
from backbone_kit.optimize import fold_norms
from tests.adapters.training import loaded
from tests.distributed.test_shard import folded

KINDS = {"BN": nn.BatchNorm2d, "SyncBN": nn.SyncBatchNorm, "FrozenBN": FrozenBatchNorm2d}


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("then", KINDS)
def test_batch_norms_compute_the_same_in_eval_mode(first: str, then: str) -> None:
    picture = torch.rand(1, 3, 64, 64)
    net = loaded(frozen_stages=-1).eval()
    expected = net(picture)
    for kind in (first, then):
        convert_norms(net, dict(type=kind))
        assert {type(m) for n, m in net.named_modules() if n.endswith(("bn1", "bn2"))} == {KINDS[kind]}
    torch.testing.assert_close(net(picture), expected)


def test_group_norms_are_those_of_a_net_built_with_them() -> None:
    norm_cfg = dict(type="GN", num_groups=32)
    net = convert_norms(loaded(frozen_stages=-1), norm_cfg)
    built = build_backbone("resnet18", norm_cfg=norm_cfg)
    theirs = [value for name, value in built.state_dict().items()]
    assert [value.shape for value in net.state_dict().values()] == [value.shape for value in theirs]
    for value, copied in zip(built.state_dict().values(), net.state_dict().values()):
        value.copy_(copied)
    picture = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net.train()(picture), built.train()(picture))


def test_they_keep_eps_momentum_mode_and_whether_they_train() -> None:
    net = build_backbone("resnet18", norm_cfg=dict(type="BN", eps=1e-3, momentum=0.03), frozen_stages=1).train()
    convert_norms(net, dict(type="SyncBN"))
    norm = net.layer1[0].bn1
    assert (norm.eps, norm.momentum, norm.training, norm.weight.requires_grad) == (1e-3, 0.03, False, False)
    assert net.layer2[0].bn1.training
    assert net.layer2[0].bn1.weight.requires_grad
    convert_norms(net, dict(type="BN", eps=1e-2, requires_grad=False))
    assert (net.bn1.eps, net.bn1.momentum, net.layer2[0].bn1.weight.requires_grad) == (1e-2, 0.03, False)


def test_what_is_frozen_by_name_stays_so() -> None:
    net = convert_norms(freeze(loaded(frozen_stages=-1), "layer1"), dict(type="SyncBN")).train()
    assert not net.layer1[0].bn1.training
    assert not net.layer1[0].bn1.weight.requires_grad
    assert net.layer2[0].bn1.training
    assert unfreeze(net, "layer1").layer1[0].bn1.training


def test_each_parameter_stays_frozen_or_not() -> None:
    net = convert_norms(freeze(loaded(frozen_stages=-1), "bn1.bias"), dict(type="GN", num_groups=8))
    assert (net.bn1.weight.requires_grad, net.bn1.bias.requires_grad) == (True, False)


def test_what_was_a_frozen_norm_trains_where_nothing_is_frozen() -> None:
    net = freeze(build_backbone("resnet18", norm_cfg=dict(type="FrozenBN"), frozen_stages=1), "layer2")
    convert_norms(net, dict(type="BN"))
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}
    assert not any(net.get_submodule(name).training for name in ("bn1", "layer1.0.bn1", "layer2.0.bn1"))


def test_norms_without_statistics_stay_so() -> None:
    old = nn.BatchNorm2d(4, track_running_stats=False).eval()
    picture = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(convert_norms(old, dict(type="BN"))(picture), old(picture))


@pytest.mark.parametrize("enabled", [True, False])
def test_they_keep_whether_they_are_folded(enabled: bool) -> None:
    net = fold_norms(loaded(frozen_stages=-1, norm_eval=True), enabled)
    convert_norms(net, dict(type="FrozenBN")).train()
    assert bool(folded(net(torch.rand(1, 3, 64, 64)))) is enabled


def test_what_is_derived_from_batch_norm_is_left_alone() -> None:
    class WithReLU(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    model = nn.Sequential(nn.BatchNorm2d(4), WithReLU(4))
    convert_norms(model, dict(type="FrozenBN"))
    assert [type(m) for m in model] == [FrozenBatchNorm2d, WithReLU]
    assert isinstance(convert_norms(nn.BatchNorm2d(4), dict(type="GN", num_groups=2)), nn.GroupNorm)


@pytest.mark.parametrize(
    ("norm", "norm_cfg", "message"),
    [
        (nn.BatchNorm2d(6), dict(type="GN", num_groups=4), "norm_cfg: .*divisible"),
        (nn.BatchNorm2d(6, track_running_stats=False), dict(type="FrozenBN"), "1 has no running statistics to freeze"),
        (nn.BatchNorm2d(6), dict(type="LN"), r"norm_cfg: LayerNorm takes no maps \(N, C, H, W\)"),
        (nn.BatchNorm2d(6), dict(type="BN1d"), r"norm_cfg: BatchNorm1d takes no maps \(N, C, H, W\)"),
        (nn.BatchNorm2d(6), "GN", "norm_cfg: must be a dict with 'type', got 'GN'"),
        (nn.BatchNorm2d(6), dict(type="GM", num_groups=4), "unknown norm layer 'GM'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(norm: nn.Module, norm_cfg: dict, message: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(8), norm)
    with pytest.raises(ConfigError, match=message):
        convert_norms(model, norm_cfg)
    assert [type(m) for m in model] == [nn.BatchNorm2d] * 2
