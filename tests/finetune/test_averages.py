"""Averages of weights and statistics, with torch's own tools on our nets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from backbone_kit import ConfigError
from backbone_kit.finetune import precise_bn
from tests.adapters.training import loaded


def stem_statistics(net: nn.Module, batches: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """In closed form: the means of each batch's own."""
    with torch.no_grad():
        maps = [net.conv1(batch) for batch in batches]
    means, variances = zip(*((m.mean((0, 2, 3)), m.var((0, 2, 3))) for m in maps))
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


def test_statistics_are_the_means_over_batches() -> None:
    net = loaded(frozen_stages=-1).eval()
    batches = [torch.rand(2, 3, 64, 64) for _ in range(3)]
    precise_bn(net, batches)
    mean, variance = stem_statistics(net, batches)
    torch.testing.assert_close(net.bn1.running_mean, mean)
    torch.testing.assert_close(net.bn1.running_var, variance)
    assert not net.training
    assert net.bn1.momentum == 0.1


@pytest.mark.parametrize("held", [dict(frozen_stages=2), dict(norm_eval=True, frozen_stages=-1)])
def test_norms_that_stay_in_eval_keep_theirs(held: dict) -> None:
    net = loaded(**held)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batches = [torch.rand(2, 3, 64, 64) for _ in range(2)]
    precise_bn(net, batches)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    expected = {n for n in before if "running" in n or "tracked" in n} if "norm_eval" not in held else set()
    kept = ("bn1.", "layer1.", "layer2.")
    assert changed == {name for name in expected if not name.startswith(kept)}
    if changed:  # behind what is frozen, statistics are of maps that it made with its own
        with torch.no_grad():
            x = [net.eval().layer2(net.layer1(net.maxpool(net.bn1(net.conv1(b)).relu()))) for b in batches]
            maps = [net.layer3[0].conv1(y) for y in x]
        torch.testing.assert_close(
            net.layer3[0].bn1.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
        )
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_without_it_frozen_statistics_are_lost() -> None:
    net = loaded(frozen_stages=4)
    update_bn([torch.rand(2, 3, 64, 64)], net)
    assert net.bn1.running_var.eq(1).all()


def test_an_average_follows_the_weights() -> None:
    net = loaded()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(net)
    first = net.layer4[0].conv1.weight.detach().clone()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    average.update_parameters(net)
    ours = average.module
    torch.testing.assert_close(ours.layer4[0].conv1.weight, first + 0.1)
    assert torch.equal(ours.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
    assert not average.train().module.layer1.training
    assert ours.out_channels == net.out_channels


def test_modes_stay_as_they_are() -> None:
    model = nn.Sequential(loaded(frozen_stages=-1), nn.Dropout()).train()
    model[0].eval()
    precise_bn(model[0], [torch.rand(2, 3, 64, 64)])
    assert not any(module.training for module in model[0].modules())
    assert model[1].training


def breaking() -> Iterator[torch.Tensor]:
    yield torch.rand(2, 3, 64, 64)
    raise KeyError("a file is missing")


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ConfigError, "batches: there is none"),
        (torch.rand(2, 3, 64, 64), ConfigError, r"batches: must be .* got a tensor; write \[pictures\]"),
        (breaking(), KeyError, "a file is missing"),
    ],
    ids=["none", "a tensor", "a loader that breaks"],
)
def test_statistics_survive_an_error(batches: object, error: type[Exception], message: str) -> None:
    net = loaded(frozen_stages=1).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(error, match=message):
        precise_bn(net, batches)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.track_running_stats) for norm in norms} == {(0.1, True)}
    assert net.training
