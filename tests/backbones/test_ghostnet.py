"""GhostNets equal timm's, at every level and before and after merging; and what timm has not: strides that dilate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from backbone_kit import build_backbone
from backbone_kit.backbones import GhostNet
from backbone_kit.backbones.ghost_bottleneck import GhostBottleneck, SqueezeExcite
from backbone_kit.errors import ConfigError
from backbone_kit.layers import GhostModule

from ..recompute.test_block import kept_bytes, step
from .test_peers import randomized, relative_difference

NAMES = timm.list_models("ghostnet*")
HEAD = ("blocks.9.", "conv_head.", "classifier.")  # a classifier's
LAST_OF_EACH_STRIDE = ("blocks.0", "blocks.2", "blocks.4", "blocks.6", "blocks.8")

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")


def trunk(peer: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in peer.state_dict().items() if not key.startswith(HEAD)}


def levels(peer: nn.Module, x: Tensor) -> list[Tensor]:
    """What the peer's modules give that are the last at their stride."""
    maps: list[Tensor] = []
    for name in LAST_OF_EACH_STRIDE:
        peer.get_submodule(name).register_forward_hook(lambda module, args, output: maps.append(output))
    peer.forward_features(x)
    return maps


def scrambled(net: nn.Module) -> nn.Module:
    return randomized(net).train(net.training)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_equals_timm_at_every_level(name: str) -> None:
    peer = randomized(timm.create_model(name))
    net = build_backbone(name).eval()
    assert list(net.state_dict()) == list(trunk(peer))
    net.load_state_dict(trunk(peer))
    x = torch.randn(1, 3, 65, 97)
    theirs = levels(peer, x)
    assert relative_difference(tuple(net.forward_intermediates(x).values()), theirs) < 1e-5
    assert relative_difference(net(x), theirs[1:]) < 1e-5


@pytest.mark.parametrize("name", ["ghostnetv3_050", "ghostnetv3_100"])
@torch.no_grad()
def test_merged_it_equals_timms_merged_net(name: str) -> None:
    peer = randomized(timm.create_model(name))
    net = build_backbone(name).eval()
    net.load_state_dict(trunk(peer))
    peer.convert_to_deploy()
    x = torch.randn(1, 3, 65, 97)
    theirs = levels(peer, x)[1:]
    assert net.reparameterize() is net
    assert relative_difference(net(x), theirs) < 1e-5
    built_merged = build_backbone(name, deploy=True).eval()
    for state in (trunk(peer), net.state_dict()):
        built_merged.load_state_dict(state)
        assert relative_difference(built_merged(x), theirs) < 1e-5


@torch.no_grad()
def test_merging_is_exact() -> None:
    net = randomized(GhostNet(0.5, "v3")).double()
    x = torch.randn(1, 3, 65, 97).double()
    before = net(x)
    for _ in range(2):  # the second time, there is nothing left to merge
        assert relative_difference(net.reparameterize()(x), list(before)) < 1e-12
    blocks = [module for module in net.modules() if isinstance(module, GhostBottleneck)]
    assert all(type(ghost) is GhostModule for block in blocks for ghost in (block.ghost1, block.ghost2))


def test_merging_keeps_frozen_stages_and_modes() -> None:
    net = GhostNet(0.5, "v3", frozen_stages=2, norm_eval=True).train().reparameterize()
    frozen = tuple(f"{name}." for name in ("conv_stem", "bn1", *(f"blocks.{i}" for i in range(5))))
    assert all(p.requires_grad is not key.startswith(frozen) for key, p in net.named_parameters())
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    assert not any(module.training for block in net.blocks[:5] for module in block.modules())
    merged = GhostNet(0.5, "v3").eval().reparameterize()
    assert not any(module.training for module in merged.modules())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_there_is_nothing_to_merge_without_branches(version: Any) -> None:
    net = GhostNet(0.5, version)
    before = copy.deepcopy(net.state_dict())
    assert list(net.reparameterize().state_dict()) == list(before)


def test_norms_that_cannot_be_merged_are_told_and_the_net_stays_as_it_was() -> None:
    net = GhostNet(1.0, "v3", norm_cfg={"type": "GN", "num_groups": 4})
    before = list(net.state_dict())
    with pytest.raises(ConfigError, match="norm_cfg: a GroupNorm cannot be merged into a convolution"):
        net.reparameterize()
    assert list(net.state_dict()) == before


def test_maps_are_the_last_of_each_stride_and_not_timms_first() -> None:
    net = build_backbone("ghostnet_100")
    assert (net.out_channels, net.out_strides) == ((24, 40, 112, 160), (4, 8, 16, 32))
    assert (net.feature_info[0].channels, net.feature_info[0].stride) == (16, 2)
    theirs = timm.create_model("ghostnet_100", features_only=True).feature_info.channels()
    assert theirs == [16, 24, 40, 80, 160]
    assert [part["blocks"] for part in net.describe()[1:]] == [2, 2, 6, 5]


# Published sizes in millions, with the classifier: https://arxiv.org/abs/1911.11907 table 6 and the authors' figures.
@pytest.mark.parametrize(("width", "millions"), [(0.5, 2.6), (1.0, 5.2), (1.3, 7.3)])
def test_sizes_are_the_published_ones(width: float, millions: float) -> None:
    with torch.device("meta"):
        net = GhostNet(width)
    last = net.out_channels[-1]
    features = int(960 * width)
    head = last * features + 2 * features + (features + 1) * 1280 + 1281 * 1000
    assert sum(p.numel() for p in net.parameters()) + head == pytest.approx(millions * 1e6, rel=0.01)


@pytest.mark.parametrize("version", ["v1", "v3"])
@pytest.mark.parametrize(("output_stride", "steps"), [(16, (1, 1, 1, 2)), (8, (1, 1, 2, 4))])
@torch.no_grad()
def test_a_dilated_net_gives_the_maps_of_the_strided_one_and_those_between(
    version: Any, output_stride: Any, steps: tuple[int, ...]
) -> None:
    """Exactly so where nothing looks at the whole map: without attention, and with the gates of SE wide open."""
    strided = randomized(GhostNet(0.5, version))
    for module in strided.modules():
        if isinstance(module, SqueezeExcite):
            nn.init.zeros_(module.conv_expand.weight)
            nn.init.constant_(module.conv_expand.bias, 10)
        if getattr(module, "short_conv", None) is not None:
            module.short_conv = None
    dilated = GhostNet(0.5, version, output_stride=output_stride).eval()
    for module in dilated.modules():
        if getattr(module, "short_conv", None) is not None:
            module.short_conv = None
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 65, 98)
    maps = dilated(x)
    assert dilated.out_strides == tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
    between = [a[..., ::step, ::step] for a, step in zip(maps, steps)]
    assert relative_difference(tuple(between), list(strided(x))) < 1e-5
    assert maps[-1].shape[-2:] == tuple(-(-side // output_stride) for side in (65, 98))


@pytest.mark.parametrize("version", ["v2", "v3"])
@torch.no_grad()
def test_dilated_nets_with_attention_share_their_weights_with_strided_ones(version: Any) -> None:
    net = GhostNet(0.5, version, output_stride=8).eval()
    net.load_state_dict(GhostNet(0.5, version).state_dict())
    before = net(torch.randn(1, 3, 64, 64))
    assert [tuple(out.shape[-2:]) for out in before] == [(16, 16), (8, 8), (8, 8), (8, 8)]
    windows = [module.window for module in net.modules() if hasattr(module, "window")]
    assert windows == [(2, 2)] * 4 + [(4, 4)] * 5 + [(4, 4)] + [(8, 8)] * 4


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_recomputed_blocks_give_the_same_gradients_for_less_memory(version: Any) -> None:
    x = torch.randn(2, 3, 64, 64)
    nets = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        nets.append(GhostNet(0.5, version, with_cp=with_cp).train())
    assert kept_bytes(nets[1], x) < 0.6 * kept_bytes(nets[0], x)
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
    plain, recomputed = (step(net, x) for net in nets)
    assert plain.keys() == recomputed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize(("version", "merge"), [("v2", False), ("v3", False), ("v3", True)])
def test_it_is_one_graph(version: Any, merge: bool) -> None:
    torch.compiler.reset()
    net = scrambled(GhostNet(0.5, version, out_indices=(1,), prune_stages=True)).eval()
    if merge:
        net.reparameterize()
    dims = {0: torch.export.Dim("n", min=1), 2: torch.export.Dim("h", min=64), 3: torch.export.Dim("w", min=64)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes=(dims,))
    x = torch.randn(3, 3, 65, 97)
    with torch.no_grad():
        expected = net(x)[0]
        torch.testing.assert_close(program.module()(x)[0], expected, rtol=1e-4, atol=1e-4)
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x)[0], expected, rtol=1e-4, atol=1e-4)


def test_the_types_of_layers_are_arguments() -> None:
    gn = {"type": "GN", "num_groups": 4}
    net = GhostNet(1.0, "v2", conv_cfg={"type": "ConvWS"}, norm_cfg=gn, act_cfg={"type": "HSwish"})
    kinds = {type(module).__name__ for module in net.modules()}
    assert {"ConvWS2d", "GroupNorm", "Hardswish"} <= kinds
    assert not kinds & {"BatchNorm2d", "ReLU"}
    assert {name.rpartition(".")[2] for name, m in net.named_modules() if type(m) is nn.Conv2d} == {
        "conv_reduce",
        "conv_expand",
    }
    outputs = net.eval()(torch.randn(1, 3, 64, 64))
    assert all(out.isfinite().all() for out in outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: GhostNet: must be positive, got 0"),
        ({"width": float("nan")}, "width: GhostNet: must be finite, got nan"),
        ({"version": "v4"}, "version: must be 'v1' or 'v2' or 'v3', got 'v4'"),
        ({"deploy": True}, "deploy: GhostNet: has no effect on 'v1': only 'v3' has branches to merge"),
        ({"output_stride": 4}, "output_stride: must be 8 or 16 or 32, got 4"),
        ({"in_channels": 0}, "in_channels: GhostNet: must be 1 or more, got 0"),
        ({"out_indices": (1, 2, 3, 4)}, "timm counts the stem as 0, so that its (1, 2, 3, 4) is (0, 1, 2, 3) here"),
        ({"widht": 1.0}, "widht: GhostNet has no argument 'widht'; did you mean 'width'?"),
    ],
)
def test_what_is_wrong_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_backbone({"type": "GhostNet", **options})
    assert message in str(error.value)


# The authors' ghost_resnet.py without the tensors that it never uses.
@pytest.mark.parametrize(("name", "millions"), [("ghost_resnet50", 13.93), ("ghost_resnet50_s4", 8.13)])
def test_ghost_resnet_has_the_live_parameters_of_the_authors_net(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = build_backbone(name)
    ghosts = [m for m in net.modules() if isinstance(m, GhostModule)]
    norms = sum(p.numel() for key, p in net.named_parameters() if ".bn" in key or ".downsample.1" in key)
    biases = sum(m.out_channels for ghost in ghosts for m in ghost.modules() if isinstance(m, nn.Conv2d))
    classifier = 2049 * 1000
    assert len(ghosts) == 52
    # Theirs has biases in its blocks and no norms.
    theirs = sum(p.numel() for p in net.parameters()) - norms + biases + classifier
    assert theirs == pytest.approx(millions * 1e6, abs=0.005e6)


def test_every_convolution_of_a_ghost_resnet_learns() -> None:
    cfg = {"type": "GhostResNet", "depth": 50, "base_channels": 16, "norm_eval": False, "zero_init_residual": False}
    net = build_backbone(cfg).train()
    sum(out.square().mean() for out in net(torch.randn(2, 3, 64, 64))).backward()
    dead = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
