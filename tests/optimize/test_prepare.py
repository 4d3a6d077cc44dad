"""prepare_for_inference: the backbone's own maps in eval mode are the reference."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit.backbones import GhostNet, ResNet, ResNetV2
from backbone_kit.errors import ConfigError
from backbone_kit.layers.ghost_branches import GhostBranches
from backbone_kit.optimize import prepare_for_inference

from ..backbones.test_contract import per_class, tiny
from ..backbones.test_folding import has_pairs, settled

X = torch.rand(2, 3, 96, 64)


def resnet(**options: Any) -> ResNet:
    return settled(ResNet(50, layers=(1, 1, 1, 1), base_channels=16, **options))  # type: ignore[return-value]


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in net.modules())


@per_class
def test_every_backbone_gives_its_maps_with_fewer_layers(kind: str) -> None:
    net = settled(tiny(kind))
    state = copy.deepcopy(net.state_dict())
    prepared = prepare_for_inference(net, X, compiled=False)
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert (prepared.out_channels, prepared.out_strides) == (net.out_channels, net.out_strides)
    assert (norms(prepared) < norms(net)) or not has_pairs(net, X)
    x = torch.rand(1, 3, 64, 96)
    net.eval()
    with torch.no_grad():
        for ours, expected in zip(prepared(x), net(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_it_runs_in_channels_last_without_gradients() -> None:
    prepared = prepare_for_inference(resnet(), X, compiled=False)
    maps = prepared(X)
    assert not any(out.requires_grad for out in maps)
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in maps)
    assert norms(prepared) == 0


def test_it_computes_in_the_dtype_that_is_asked_for() -> None:
    net = resnet()
    maps = prepare_for_inference(net, X, torch.bfloat16, compiled=False)(X)
    for ours, expected in zip(maps, net.eval()(X)):
        assert ours.dtype is torch.bfloat16
        assert (ours - expected).norm() < 0.05 * expected.norm()
    with pytest.raises(ConfigError, match=r"dtype: must be one of torch.float64, .*, got torch.int8"):
        prepare_for_inference(net, X, torch.int8)


def test_what_no_level_needs_is_left_out() -> None:
    whole = prepare_for_inference(resnet(), X, compiled=False)
    early = prepare_for_inference(resnet(out_indices=(1,)), X, compiled=False)
    keys = [key for key in whole.state_dict() if not key.startswith(("net.layer3", "net.layer4"))]
    assert list(early.state_dict()) == keys


def test_branches_are_merged() -> None:
    net = settled(GhostNet(version="v3"))
    prepared = prepare_for_inference(net, X, compiled=False)
    assert any(isinstance(module, GhostBranches) for module in net.modules())
    assert not any(isinstance(module, GhostBranches) for module in prepared.modules())


class _Drifting(nn.Module):
    """Adds how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def test_a_net_that_came_out_different_is_refused() -> None:
    net = resnet()
    net.layer2.append(_Drifting())
    with pytest.raises(RuntimeError, match=r"map 1 of the prepared net is off by .* the backbone is as it was"):
        prepare_for_inference(net, X, compiled=False)


def test_maps_that_are_not_numbers_are_refused() -> None:
    net = resnet()
    nn.init.constant_(net.layer1[0].conv1.weight, float("nan"))
    with pytest.raises(RuntimeError, match="map 0 of the backbone itself is not finite; look at its weights"):
        prepare_for_inference(net, X, compiled=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_its_weights_are_packed_and_it_gives_the_same_maps() -> None:
    torch.compiler.reset()
    counters.clear()
    net = resnet(out_indices=(0, 1))
    prepared = prepare_for_inference(net, X, compiled=True)
    assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 9  # stem, two blocks and their shortcuts
    for ours, expected in zip(prepared(X), net.eval()(X), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    x = torch.rand(1, 3, 64, 96)
    for ours, expected in zip(prepared(x), net(x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@torch.no_grad()
def test_compiled_it_follows_the_weights_that_are_loaded_and_can_be_copied_and_pickled() -> None:
    torch.compiler.reset()
    small = dict(layers=(1,), num_stages=1, base_channels=8)
    old, new = (settled(ResNet(18, **small)).eval() for _ in range(2))
    nn.init.normal_(new.conv1.weight)
    prepared, other = (prepare_for_inference(net, X, compiled=True) for net in (old, new))
    copies = (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared)))
    nn.ModuleDict({"body": prepared}).load_state_dict({f"body.{k}": v for k, v in other.state_dict().items()})
    for net, expected in ((prepared, new), *((each, old) for each in copies)):
        for ours, theirs in zip(net(X), expected(X), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert {y.dtype for y in prepared.double()(X)} == {torch.float64}  # not compiled


@torch.no_grad()
def test_it_stays_in_eval_mode() -> None:
    net = settled(ResNetV2((1, 1, 1, 1), (8, 8, 8, 8))).eval()  # whose norms come first, and are left
    prepared = prepare_for_inference(net, X, compiled=False)
    assert norms(prepared)
    for ours, theirs in zip(nn.Sequential(prepared).train()(X), net(X), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not any(module.training for module in prepared.modules())


@pytest.mark.parametrize(("before", "after"), [(torch.float32, torch.float64), (torch.bfloat16, torch.float32)])
def test_a_finer_dtype_is_held_to_the_roundings_of_the_net(before: torch.dtype, after: torch.dtype) -> None:
    maps = prepare_for_inference(resnet().to(before), X, after, compiled=False)(X)
    assert {y.dtype for y in maps} == {after}


def test_pictures_that_are_not_normalised_are_refused_as_the_net_does() -> None:
    prepared = prepare_for_inference(resnet(), X, compiled=False)
    with pytest.raises(TypeError, match=r"got torch\.uint8; normalise them"):
        prepared((255 * X).byte())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(backbone=nn.Identity()), "backbone: must be a Backbone, got a Identity"),
        (dict(example=(1, 3, 64, 64)), "example: must be a tensor of pictures .*, got <class 'tuple'>"),
        (dict(example=X[0]), r"example: must be a tensor of pictures .*, got torch.float32 of shape \(3, 96, 64\)"),
        (dict(example=X[:0]), r"example: must be .*, got torch.float32 of shape \(0, 3, 96, 64\)"),
        (dict(example=X.byte()), "example: must be .* of a floating dtype, got torch.uint8"),
        (dict(example=X.to("meta")), "example: must be on cpu, as the weights are, got meta"),
        (dict(backbone=resnet().to("meta"), example=X.to("meta")), "backbone: must have memory, is on the meta device"),
        (dict(dtype=torch.float64, compiled=True), "compiled: must be False or None in torch.float64"),
    ],
)
def test_arguments_that_cannot_be_are_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_for_inference(**{"backbone": resnet(), "example": X, "compiled": False, **given})


def test_pictures_of_another_dtype_are_cast_and_float64_is_not_compiled() -> None:
    counters.clear()
    prepared = prepare_for_inference(resnet().double(), X)
    assert not counters["stats"]["unique_graphs"]
    assert all(y.dtype == torch.float64 for y in prepared(X))


def test_it_moves_to_another_dtype_as_a_module_does() -> None:
    prepared = prepare_for_inference(resnet(), X, compiled=False).bfloat16()
    assert all(y.dtype == prepared.dtype == torch.bfloat16 for y in prepared(X))
