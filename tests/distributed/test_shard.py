"""On several processes, a backbone computes and learns what it does on one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from backbone_kit import build_backbone, load_checkpoint
from backbone_kit.backbones import Backbone
from backbone_kit.distributed import average_statistics, shard, whole_parameters
from backbone_kit.errors import ConfigError
from backbone_kit.finetune import freeze_unused
from tests.backbones.test_contract import per_class_slowly, tiny
from tests.backbones.test_peers import randomized

from .conftest import WORLD, Run

SMALL = dict(type="ResNet", depth=18, base_channels=9, stem_channels=9)  # odd: shares are of different sizes
WRAPS = {"DDP": DistributedDataParallel, "FSDP2": shard}


def in_train(net: Backbone) -> Backbone:
    """In train mode, but for BatchNorms: their statistics would be of one process's pictures."""
    for layer in net.train().modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
    return net


def step(runs: nn.Module, pictures: Tensor) -> tuple[Tensor, ...]:
    """The maps, and a loss of all of them, backward."""
    maps = runs(pictures)
    sum(m.square().mean() for m in maps if m.requires_grad).backward()
    return maps


def grads(net: nn.Module) -> dict[str, Tensor | None]:
    """Of all processes together."""
    found = {name: p.grad for name, p in net.named_parameters()}
    return {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in found.items()}


def folded(maps: tuple[Tensor, ...]) -> int:
    """How many convolutions had a norm folded into them."""
    nodes = [m.grad_fn for m in maps if m.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        new = {node for node, _ in nodes.pop().next_functions if node is not None} - seen
        seen |= new
        nodes += new
    return sum(type(node).__name__ == "_ScaledConvBackward" for node in seen)


def error(ours: Mapping[str, Tensor | None], theirs: Mapping[str, Tensor | None]) -> float:
    """The largest difference of a tensor, in its largest values; infinite where only one is there."""
    pairs = [(ours[name], theirs[name]) for name in theirs]
    if any((a is None) != (b is None) for a, b in pairs):
        return float("inf")
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b is not None and b.any())


def compared(wrap: str, overrides: dict[str, Any]) -> tuple[float, int]:
    """The error of the second step's gradients, and how many norms are folded."""
    torch.manual_seed(0)
    whole = randomized(build_backbone(SMALL, **overrides).double())
    net = copy.deepcopy(whole)
    freeze_unused(net)
    runs = WRAPS[wrap](net)
    in_train(whole), in_train(net)
    for _ in range(2):  # DDP finds out in the second what it missed in the first
        whole.zero_grad(), net.zero_grad()
        pictures = torch.rand(WORLD, 3, 64, 64, dtype=torch.float64)
        maps = step(runs, pictures[dist.get_rank()][None])
        step(whole, pictures)
    return error(grads(net), grads(whole)), folded(maps)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    "overrides",
    [
        dict(frozen_stages=2),
        dict(out_indices=(1,)),
        dict(with_cp=True),
        dict(norm_cfg=dict(type="GN", num_groups=3)),
        dict(norm_cfg=dict(type="FrozenBN"), with_cp=True, frozen_stages=0),
    ],
    ids=["frozen stages", "stages that do not run", "recomputed", "GN", "all of it"],
)
def test_gradients_are_those_of_one_process(run: Run, wrap: str, overrides: dict[str, Any]) -> None:
    for difference, folds in run(compared, wrap, overrides):
        assert difference < 1e-12
        assert (folds > 0) == ("GN" not in str(overrides))


def test_recompute_is_refused_before_anything_is_shared_out() -> None:
    with pytest.raises(ConfigError, match=r"recompute: does not go with FSDP2.*use with_cp=True, where"):
        shard(build_backbone(SMALL, recompute="cheap"))


def unused(find: bool) -> str:
    net = build_backbone(SMALL, out_indices=(1,))
    runs = DistributedDataParallel(net.train(), find_unused_parameters=find)
    try:
        for _ in range(2):
            step(runs, torch.rand(1, 3, 64, 64))
    except RuntimeError as raised:
        return str(raised)
    return ""


@pytest.mark.slow
def test_stages_that_do_not_run_are_in_the_way_where_they_are_not_frozen(run: Run) -> None:
    assert all("find_unused_parameters=True" in message for message in run(unused, False))


def from_meta(kind: str) -> tuple[list[str], float, float]:
    """Weights that differ from one process's, the error of gradients, and the share of the parameters."""
    torch.manual_seed(0)
    with torch.device("meta"):
        whole, net = tiny(kind).double(), tiny(kind).double()
    whole.to_empty(device="cpu").init_weights()
    torch.manual_seed(dist.get_rank())  # what counts is the first process's
    shard(net).to_empty(device="cpu").init_weights()
    with whole_parameters(net):
        differ = [name for name, value in net.state_dict().items() if not torch.equal(value, whole.state_dict()[name])]
    held = sum(p.to_local().numel() for p in net.parameters()) / sum(p.numel() for p in whole.parameters())

    load_checkpoint(net, randomized(whole).state_dict())
    pictures = torch.rand(WORLD, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step(in_train(net), pictures[dist.get_rank()][None])
    step(in_train(whole), pictures)
    return differ, error(grads(net), grads(whole)), held


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ConvNeXt", "HRNet", "ResNetV1c", "TimmBackbone", "VGG"])
def test_weights_and_gradients_are_those_of_one_process(run: Run, kind: str) -> None:
    for differ, difference, held in run(from_meta, kind):
        assert differ == []
        assert difference < 1e-11
        assert held == pytest.approx(0.5, abs=0.01)


@pytest.fixture(name="alone")
def _alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@per_class_slowly
@torch.no_grad()
def test_every_family_gathers_its_parameters_when_they_are_needed(kind: str, alone: None) -> None:
    net = randomized(tiny(kind))
    pictures = torch.rand(1, 3, 64, 64)
    expected = net.forward_intermediates(pictures)
    shard(net)
    for unit in net.units()[1:]:
        wrapped = [module for module in unit if isinstance(module, FSDPModule)]
        assert wrapped == [module for module in unit if any(True for _ in module.parameters())]
    assert error(net.forward_intermediates(pictures), expected) < 1e-5
    assert [m.shape for m in net(pictures)]


def named_weights(file: str) -> tuple[bool, bool]:
    with torch.device("meta"):
        net = build_backbone(SMALL, init_cfg=dict(type="Pretrained", checkpoint=file), frozen_stages=1)
    shard(net).to_empty(device="cpu").init_weights()
    expected = torch.load(file)
    with whole_parameters(net):
        equal = all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    return equal, net.load_report is not None


@pytest.mark.slow
def test_named_weights_are_shared_out(run: Run, tmp_path: Path) -> None:
    torch.save(build_backbone(SMALL).state_dict(), tmp_path / "weights.pth")
    assert run(named_weights, str(tmp_path / "weights.pth")) == [(True, True)] * WORLD


def trained(wrap: str) -> tuple[set[str], set[str]]:
    """What changes in two steps, and what has a gradient."""
    torch.manual_seed(0)
    net = build_backbone(SMALL, frozen_stages=2, norm_eval=False, zero_init_residual=False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    runs = WRAPS[wrap](net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.train()
    for _ in range(2):
        step(runs, torch.rand(2, 3, 64, 64))
        optimizer.step()
    with_grad = {name for name, p in net.named_parameters() if p.grad is not None}
    with whole_parameters(net):
        return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}, with_grad


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_frozen_stays_so_and_all_else_trains(run: Run, wrap: str) -> None:
    keys = build_backbone(SMALL).state_dict()
    free = {name for name in keys if name.startswith(("layer3.", "layer4."))}
    for changed, with_grad in run(trained, wrap):
        assert changed == free
        assert with_grad == {name for name in free if "running" not in name and "tracked" not in name}


def averaged(start: list[float]) -> tuple[Tensor, Tensor, int]:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(3, track_running_stats=False))
    net[0].running_mean.fill_(start[dist.get_rank()])
    net[0].running_var.fill_(start[dist.get_rank()] + 1)
    average_statistics(net)
    return net[0].running_mean, net[0].running_var, int(net[0].num_batches_tracked)


@pytest.mark.slow
def test_statistics_are_the_mean_of_all_processes(run: Run) -> None:
    for mean, variance, count in run(averaged, [1.0, 5.0]):
        torch.testing.assert_close(mean, torch.full((2,), 3.0))
        torch.testing.assert_close(variance, torch.full((2,), 4.0))
        assert count == 0
