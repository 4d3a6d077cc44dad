"""HRNet computes what MMDetection's, MMPretrain's and timm's compute, and runs on every size."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import ConfigError, build_backbone, from_openmmlab
from backbone_kit.backbones import HRNet
from backbone_kit.backbones.branches import Fusion, Transition
from backbone_kit.backbones.residual import BN, RELU, ResidualBlock

from ..golden import cases, difference, fill, picture
from ..undrawn import undrawn
from .test_peers import randomized, relative_difference

TYPES: dict[str, Any] = dict(conv_cfg=None, norm_cfg=BN, act_cfg=RELU)


def stage(branches: int, *, block: str = "BASIC", **changes: Any) -> dict[str, Any]:
    channels = [4 * 2**i for i in range(branches)]
    numbers = dict(num_modules=1, num_branches=branches, block=block, num_blocks=[1] * branches, num_channels=channels)
    return {**numbers, **changes}


def extra(**changes: Any) -> Any:
    return {f"stage{n}": stage(n, block="BOTTLENECK" if n == 1 else "BASIC") for n in (1, 2, 3, 4)} | changes


CASES = cases("openmmlab_hrnet")


def _golden() -> list[Any]:
    marks = [() if case["n_params"] < 1e7 else pytest.mark.slow for case in CASES]
    ids = [f"{case['source']}-w{case['outputs'][0]['shape'][1]}" for case in CASES]
    return [pytest.param(case, id=name, marks=mark) for case, name, mark in zip(CASES, ids, marks)]


@pytest.mark.parametrize("case", _golden())
def test_equals_openmmlab(case: dict[str, Any]) -> None:
    with undrawn():
        net = build_backbone(from_openmmlab(case["cfg"], case["source"]))
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == case["keys"]
    assert list(net.state_dict()) == list(case["keys"])
    assert sorted(n for n, p in net.named_parameters() if not p.requires_grad) == case["frozen_params"]
    training = [name for name, m in net.train().named_modules() if isinstance(m, _BatchNorm) and m.training]
    assert sorted(training) == sorted(case["batchnorms_in_train_mode"])
    fill(net)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    assert max(map(difference, outputs, case["outputs"])) < 1e-4


@pytest.mark.parametrize(
    "name",
    ["hrnet_w18_small", "hrnet_w18_small_v2", *(pytest.param(f"hrnet_w{w}", marks=pytest.mark.slow) for w in (18, 32))],
)
@torch.no_grad()
def test_equals_timm(name: str) -> None:
    """The branches, without the layers that lead from them to timm's classifier; the keys are the same."""
    peer = randomized(timm.create_model(name, features_only=True, feature_location="", out_indices=(1, 2, 3, 4)))
    with undrawn():
        net = build_backbone(name)
    net.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert relative_difference(net.eval()(x), peer(x)) < 1e-5


@pytest.mark.parametrize("width", [18, 30, 32, 40, 44, 48, 64])
def test_names_are_timms_nets(width: int) -> None:
    with torch.device("meta"):
        ours = build_backbone(f"hrnet_w{width}").state_dict()
        theirs = timm.create_model(f"hrnet_w{width}", features_only=True, feature_location="").state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("size", [(1, 1), (33, 65), (97, 129), (100, 64), (224, 31)])
def test_any_size_works_and_rounds_up(size: tuple[int, int]) -> None:
    for mode in ("nearest", "bilinear"):
        with torch.device("meta"):
            outputs = HRNet(extra(), upsample_mode=mode).eval()(torch.empty(1, 3, *size))
        expected = [tuple(-(-n // stride) for n in size) for stride in (4, 8, 16, 32)]
        assert [tuple(out.shape[2:]) for out in outputs] == expected


def fused(mode: Any, coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """What arrives of a coarser map at a branch of this size whose own map is 0."""
    fusion = Fusion(0, (1, *[1] * 3), upsample_mode=mode, **TYPES).eval()
    torch.nn.init.ones_(fusion.get_submodule("3")[0].weight)
    fusion.relu = torch.nn.Identity()
    maps = [torch.zeros(1, 1, *(-(-n // 2**i) for n in size)) for i in range(3)]
    with torch.no_grad():
        arrived: Tensor = fusion([*maps, coarse])
    return arrived * (1 + 1e-5) ** 0.5  # BatchNorm's eps


def test_a_coarser_map_is_enlarged_to_the_size_of_the_branch() -> None:
    coarse = torch.arange(6.0).reshape(1, 1, 2, 3)
    rows, columns = ([i * n // size for i in range(size)] for n, size in ((2, 9), (3, 21)))
    torch.testing.assert_close(fused("nearest", coarse, (9, 21)), coarse[:, :, rows][:, :, :, columns])
    twice = F.interpolate(coarse, scale_factor=8, mode="bilinear")  # MMSegmentation: by the factor, then to the size
    torch.testing.assert_close(fused("bilinear", coarse, (9, 21)), F.interpolate(twice, (9, 21), mode="bilinear"))
    torch.testing.assert_close(fused("bilinear", coarse, (16, 24)), twice)


@torch.no_grad()
def test_bilinear_is_what_mmsegs_dicts_mean() -> None:
    cfg = from_openmmlab(dict(type="HRNet", extra=extra()), "mmseg")
    net = build_backbone(cfg).eval()
    other = HRNet(extra()).eval()
    other.load_state_dict(net.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not net.norm_eval
    assert not torch.allclose(net(x)[0], other(x)[0])


@torch.no_grad()
def test_the_finest_branch_alone_has_the_same_map_and_fewer_layers() -> None:
    whole, alone = HRNet(extra()).eval(), HRNet(extra(), multiscale_output=False).eval()
    kept = {key: v for key, v in whole.state_dict().items() if not re.match(r"stage4\.0\.fuse_layers\.[123]", key)}
    alone.load_state_dict(kept)
    x = torch.randn(1, 3, 64, 64)
    (ours,) = alone(x)
    assert torch.equal(ours, whole(x)[0])
    assert (alone.out_channels, alone.out_strides) == ((4,), (4,))
    with pytest.raises(ConfigError, match=r"out_indices: 1 is out of range: there is only 0"):
        HRNet(extra(), multiscale_output=False, out_indices=(1,))


def test_stages_freeze_with_the_transitions_after_them() -> None:
    """As in MMSegmentation."""
    held = [("conv", "bn"), ("layer1.", "transition1."), ("stage2.", "transition2."), ("stage3.", "transition3.")]
    held += [("stage4.",)]
    for frozen in range(-1, 5):
        net = HRNet(extra(), frozen_stages=frozen, norm_eval=False).train()
        prefixes = tuple(prefix for group in held[: frozen + 1] for prefix in group)
        assert {n for n, p in net.named_parameters() if not p.requires_grad} == {
            n for n, _ in net.named_parameters() if n.startswith(prefixes)
        }


def test_a_branch_whose_channels_change_goes_on_from_itself() -> None:
    """MMDetection sends the coarsest map there, of another size."""
    net = HRNet(extra(stage3=stage(3, num_channels=[6, 8, 16])))
    assert isinstance(net.transition2, Transition)
    assert net.transition2[0][0].weight.shape == (6, 4, 3, 3)
    assert isinstance(net.transition2[1], torch.nn.Identity)
    assert [tuple(x.shape[1:]) for x in net.eval()(torch.randn(1, 3, 64, 64))] == [
        (4 * 2**i, 16 >> i, 16 >> i) for i in range(4)
    ]


def test_bottlenecks_in_every_stage() -> None:
    net = HRNet(extra(**{f"stage{n}": stage(n, block="BOTTLENECK") for n in (1, 2, 3, 4)}))
    assert net.out_channels == (16, 32, 64, 128)
    assert [x.shape[1] for x in net.eval()(torch.randn(1, 3, 32, 32))] == [16, 32, 64, 128]


def test_zero_init_residual_works() -> None:
    """Upstream it has no effect."""
    blocks = [m for m in HRNet(extra(), zero_init_residual=True).modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 1 + 2 + 3 + 4
    assert all(not block.norm(block.expansion // 4 + 2).weight.any() for block in blocks)
    assert all(m.weight.all() for m in HRNet(extra()).modules() if isinstance(m, _BatchNorm))
    with pytest.warns(UserWarning, match="zero_init_residual=True leaves out blocks"):
        HRNet(extra(), zero_init_residual=True, norm_cfg=dict(type="BN", requires_grad=False))


def test_recomputation_changes_no_gradient() -> None:
    plain, recomputed = HRNet(extra(), norm_eval=False), HRNet(extra(), norm_eval=False, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, recomputed):
        sum(out.square().mean() for out in net.train()(x)).backward()
    for (name, a), b in zip(plain.named_parameters(), recomputed.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_types_of_layers_reach_every_layer() -> None:
    net = HRNet(
        extra(), conv_cfg=dict(type="ConvWS"), norm_cfg=dict(type="GN", num_groups=2), act_cfg=dict(type="SiLU")
    )
    kinds = {type(m).__name__ for m in net.modules() if not list(m.children())}
    assert kinds == {"ConvWS2d", "GroupNorm", "SiLU", "Identity"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(stage2=stage(2, num_blocks=[1])),
            r"extra\.stage2\.num_blocks: needs 2 values, one for each of num_branches",
        ),
        (dict(stage3=stage(3, num_channels=[4, 0, 8])), r"extra\.stage3\.num_channels\[1\]: must be 1 or more, got 0"),
        (dict(stage1=stage(2)), r"extra\.stage1\.num_branches: must be 1: the first stage is blocks"),
        (dict(stage4=stage(4, num_modules=0)), r"extra\.stage4\.num_modules: must be 1 or more, got 0"),
        (dict(stage4=stage(4, block="BASICS")), r"extra\.stage4\.block: must be 'BASIC' or 'BOTTLENECK', got 'BASICS'"),
        (dict(stage4={**stage(4), "fuse_method": "SUM"}), r"extra\.stage4\.fuse_method: unknown key 'fuse_method'"),
        (dict(stage5=stage(4)), r"extra\.stage5: unknown key 'stage5'; did you mean"),
    ],
)
def test_what_is_wrong_with_extra_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HRNet(extra(**changes))


def test_all_problems_of_extra_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        HRNet(extra(stage2=stage(2, num_blocks=[1]), stage3=stage(3, num_channels=[4, 0, 8])))
    assert [problem.path[1] for problem in caught.value.problems] == ["stage2", "stage3"]


def test_arch_and_extra_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"arch: names a net beside extra"):
        HRNet(extra(), arch="w18")
    with torch.device("meta"):
        assert list(HRNet().out_channels) == list(HRNet(arch="w32").out_channels) == [32, 64, 128, 256]
