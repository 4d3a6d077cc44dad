"""What every backbone promises, checked for every config and every registered class, present and future."""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import BACKBONES, backbones, build_backbone, list_backbones
from backbone_kit.backbones import Backbone
from backbone_kit.layers import fuse_conv_bn
from backbone_kit.names import TABLE, config_root, named_config, named_configs
from backbone_kit.signature import parameters

from ..torch_versions import dynamic_export
from .test_peers import randomized

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")
CONFIGS = {name: named_config(name) for name in list_backbones()}
SIZE = 256  # a multiple of every stride, so that map sizes are exact quotients


def meta(name: str, **overrides: Any) -> Backbone:
    with torch.device("meta"):
        return build_backbone(CONFIGS[name], **overrides)


def state_keys(net: Backbone, module: str) -> list[str]:
    return list(net.get_submodule(module).state_dict())


@functools.cache
def smallest(kind: str) -> str:
    """The config of that type with the fewest parameters."""
    names = [name for name, cfg in CONFIGS.items() if cfg["type"] == kind]
    known = json.loads((config_root() / "zoo.json").read_text())
    return min(names, key=lambda name: known[name]["params"] if name in known else _size(name))


def _size(name: str) -> int:
    return sum(p.numel() for p in meta(name).parameters())


def _stage(branches: int, *, block: str = "BASIC") -> dict[str, Any]:
    channels = [4 * 2**i for i in range(branches)]
    return dict(num_modules=1, num_branches=branches, block=block, num_blocks=[1] * branches, num_channels=channels)


# What makes a net small enough to compile in seconds, where even the smallest that has a name is not.
TINY = {
    "HRNet": {
        "arch": None,
        "extra": {
            "stage1": _stage(1, block="BOTTLENECK"),
            "stage2": _stage(2),
            "stage3": _stage(3),
            "stage4": _stage(3),
        },
    }
}


def tiny(kind: str, **overrides: Any) -> Backbone:
    cfg = CONFIGS[smallest(kind)]
    shallow = {"layers": (1,) * cfg.get("num_stages", 4)} if "layers" in parameters(BACKBONES.get(kind)) else {}
    return build_backbone(cfg, **TINY.get(kind, shallow), **overrides)


def compilable(kind: str, **overrides: Any) -> Backbone:
    """As `tiny`, with one stage of switchable convolutions, each of which takes a compiler seconds."""
    one = dict(stage_with_sac=(False, False, False, True)) if kind.startswith("DetectoRS") else {}
    return tiny(kind, **one, **overrides)


def per_class(function: Any) -> Any:
    return pytest.mark.parametrize("kind", sorted(BACKBONES))(function)


def per_class_slowly(function: Any) -> Any:
    """One class in the fast part, all in the whole."""
    kinds = [kind if kind == "ResNet" else pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(BACKBONES)]
    return pytest.mark.parametrize("kind", kinds)(function)


def per_config(function: Any) -> Any:
    rows = {name for name, path in named_configs().items() if path.name == TABLE}
    names = [pytest.param(n, marks=pytest.mark.slow) if n in rows else n for n in CONFIGS]
    return pytest.mark.parametrize("name", names)(function)


def test_every_registered_class_is_an_attribute() -> None:
    assert all(getattr(backbones, name) is BACKBONES.get(name) for name in BACKBONES)


def test_every_registered_class_has_a_config() -> None:
    assert {cfg["type"] for cfg in CONFIGS.values()} == set(BACKBONES)


@per_config
def test_its_metadata_and_its_parts_are_what_it_is(name: str) -> None:
    before = copy.deepcopy(CONFIGS[name].to_dict())
    net = meta(name).eval()
    assert CONFIGS[name].to_dict() == before

    levels = net.forward_intermediates(torch.empty(2, 3, SIZE, SIZE, device="meta"))
    assert list(levels) == [info.name for info in net.feature_info]
    assert next(iter(levels)) == "stem"
    for info in net.feature_info:
        assert levels[info.name].shape == (2, info.channels, SIZE // info.stride, SIZE // info.stride)

    parts = net.describe()
    described = [f"{module}.{key}" for part in parts for module in part["modules"] for key in state_keys(net, module)]
    assert sorted(described) == sorted(net.state_dict())
    assert [part["out_index"] for part in parts if part["out_index"] is not None] == list(range(len(net.out_indices)))


@per_class
def test_a_forward_gives_the_maps_that_the_metadata_name(kind: str) -> None:
    net = meta(smallest(kind)).eval()
    outputs = net(torch.empty(2, 3, SIZE, SIZE, device="meta"))
    assert isinstance(outputs, tuple)
    assert [out.shape[:2] for out in outputs] == [(2, channels) for channels in net.out_channels]
    assert [(SIZE // out.shape[2], SIZE // out.shape[3]) for out in outputs] == [(s, s) for s in net.out_strides]


@per_class
def test_outputs_come_in_the_order_that_is_asked_for(kind: str) -> None:
    name = smallest(kind)
    last = len(meta(name).feature_info) - 2
    asked = meta(name, out_indices=(last, 0)).eval()
    x = torch.empty(1, 3, SIZE, SIZE, device="meta")
    levels = asked.forward_intermediates(x)
    assert asked.out_indices == (last, 0)
    assert [o.shape for o in asked(x)] == [levels[asked.feature_info[i + 1].name].shape for i in (last, 0)]
    assert meta(name, out_indices=(-1,)).out_indices == (last,)


@per_class
def test_forward_stops_after_the_last_level_that_is_needed(kind: str) -> None:
    net = meta(smallest(kind), out_indices=(0,))
    parts = net.describe()
    ran: set[str] = set()
    for name in (name for part in parts for name in part["modules"]):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.add(name))
    net.eval()(torch.empty(1, 3, SIZE, SIZE, device="meta"))
    assert ran == set().union(*(part["modules"] for part in parts[: _position(parts, 0) + 1]))


@per_class
def test_what_is_pruned_is_not_built_and_changes_nothing_else(kind: str) -> None:
    name = smallest(kind)
    whole, pruned = meta(name, out_indices=(1,)), meta(name, out_indices=(1,), prune_stages=True)
    parts = whole.describe()
    kept = _position(parts, 0) + 1
    assert pruned.describe() == parts[:kept]
    gone = tuple(f"{name}." for part in parts[kept:] for name in part["modules"])
    assert list(pruned.state_dict()) == [k for k in whole.state_dict() if not k.startswith(gone)]


def _position(parts: list[dict[str, Any]], out_index: int) -> int:
    return [part["out_index"] for part in parts].index(out_index)


@per_class
def test_train_and_eval_return_the_net(kind: str) -> None:
    net = meta(smallest(kind))
    assert net.train() is net
    assert net.eval() is net
    assert not any(module.training for module in net.modules())


@per_class
def test_frozen_stages_never_train(kind: str) -> None:
    name = smallest(kind)
    for frozen in range(-1, len(meta(name).stage_names) + 1):
        net = meta(name, frozen_stages=frozen, norm_eval=False)
        parts = [part for part in net.parts if part.position <= frozen]
        held = tuple(f"{name}." for part in parts for name in part.modules + part.out)
        for mode in (None, True, False, True):  # as constructed, and through every switch
            if mode is not None:
                net.train(mode)
            for key, parameter in net.named_parameters():
                assert parameter.requires_grad is not key.startswith(held), (frozen, key)
            for key, module in net.named_modules():
                if isinstance(module, _BatchNorm) and mode is not False:
                    assert module.training is not f"{key}.".startswith(held), (frozen, key)


@per_class
def test_norm_eval_holds_from_the_constructor_on(kind: str) -> None:
    net = meta(smallest(kind), norm_eval=True, frozen_stages=-1)
    for _ in range(2):
        assert not any(m.training for m in net.modules() if isinstance(m, _BatchNorm))
        assert all(parameter.requires_grad for parameter in net.parameters())
        net.eval().train()


@per_class
def test_every_trainable_parameter_gets_a_gradient(kind: str) -> None:
    net = tiny(kind, frozen_stages=1, norm_eval=False)
    sum(out.mean() for out in net.train()(torch.randn(2, 3, 64, 64))).backward()
    assert all((p.grad is not None) is p.requires_grad for p in net.parameters())


@pytest.mark.slow
@per_class
def test_training_compiles_as_one_graph(kind: str) -> None:
    equals_eager_in_one_graph(compilable(kind, frozen_stages=1, norm_eval=False).train())


@torch.no_grad()
def test_eval_compiles_as_one_graph() -> None:  # as a frozen stage does, in the test above
    equals_eager_in_one_graph(compilable("ResNet").eval())


def equals_eager_in_one_graph(net: Backbone) -> None:
    torch.compiler.reset()
    x = torch.randn(2, 3, 64, 96)
    state = copy.deepcopy(net.state_dict())
    outputs = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    moved = copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    for ours, eager in zip(outputs, net(x)):
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-4)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(moved[key], value, rtol=1e-4, atol=1e-4, msg=key)


@dynamic_export
@per_class_slowly
def test_exports_with_dynamic_sizes(kind: str) -> None:
    training = kind in ("ResNet", "ResNeSt")
    net = compilable(kind, frozen_stages=1, norm_eval=True).train(training)
    dims = {0: torch.export.Dim("n", min=1), 2: torch.export.Dim("h", min=64), 3: torch.export.Dim("w", min=64)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes=(dims,))
    x = torch.randn(3, 3, 65, 97)
    with torch.no_grad():
        for exported, eager in zip(program.module()(x), net(x)):
            torch.testing.assert_close(exported, eager, rtol=1e-4, atol=1e-4)


@per_class
def test_copies_are_independent(kind: str) -> None:
    net = tiny(kind).eval()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        nn.init.zeros_(next(net.parameters()))
        x = torch.randn(1, 3, 64, 64)
        assert not torch.equal(net(x)[0], twin(x)[0])


@per_class
@torch.no_grad()
def test_norms_fold_into_the_convolutions_before_them(kind: str) -> None:
    net = randomized(tiny(kind).double())
    x = torch.randn(1, 3, 64, 64).double()
    for fused, ours in zip(fuse_conv_bn(net, x)(x), net(x)):
        torch.testing.assert_close(fused, ours, rtol=1e-8, atol=1e-8)
