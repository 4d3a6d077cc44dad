"""TridentResNet is a ResNet for each dilation, all with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import ConfigError, build_backbone
from backbone_kit.backbones import ResNet
from backbone_kit.backbones.trident_resnet import TridentConv, TridentResNet

from ..golden import cases, difference, fill, picture
from .test_peers import randomized

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")
DILATIONS = (1, 2, 3)


def trident(**options: Any) -> TridentResNet:
    branches = dict(num_branch=3, test_branch_idx=1, trident_dilations=DILATIONS)
    return TridentResNet(26, **{**branches, "base_channels": 8, "out_indices": (2,), **options})


def single(net: TridentResNet, dilation: int, **options: Any) -> ResNet:
    """The ResNet that one of the branches is."""
    options = {"base_channels": 8, "out_indices": (2,), "num_stages": 3, "dilations": (1, 1, dilation), **options}
    branch = ResNet(26, **options)
    branch.load_state_dict(net.state_dict())
    return branch


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 65, 97, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", cases("mmdet_trident"))
def test_equals_mmdetection(case: dict[str, Any]) -> None:
    net = build_backbone(case["cfg"])
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == case["keys"]
    assert list(net.state_dict()) == list(case["keys"])
    assert sorted(n for n, p in net.named_parameters() if not p.requires_grad) == case["frozen_params"]
    assert not [m for m in net.train().modules() if isinstance(m, _BatchNorm) and m.training]
    fill(net)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    assert max(map(difference, outputs, case["outputs"])) < 1e-4


@pytest.mark.parametrize("options", [{}, {"avg_down": True, "style": "caffe"}, {"plugins": [
    {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv2"}
]}])  # fmt: skip
@torch.no_grad()
def test_every_branch_is_a_resnet_of_its_dilation(options: dict[str, Any]) -> None:
    """Upstream ignores avg_down in the last stage."""
    net = randomized(trident(**options))
    x = images()
    expected = [single(net, dilation, **options).eval()(x)[0] for dilation in DILATIONS]
    torch.testing.assert_close(net(x)[0], expected[1])
    torch.testing.assert_close(net.train()(x)[0], torch.cat(expected))  # norm_eval: as in eval, in three branches
    everywhere = trident(test_branch_idx=-1, **options).eval()
    everywhere.load_state_dict(net.state_dict())
    torch.testing.assert_close(everywhere(x)[0], torch.cat(expected))


def test_gradients_are_the_sum_over_the_branches() -> None:
    net = trident().double().train()
    branches = [single(net, dilation).double().train() for dilation in DILATIONS]
    weight = torch.randn(6, 256 // 2, 5, 7, dtype=torch.float64)
    x = images().double()
    (net(x)[0] * weight).sum().backward()
    for branch, part in zip(branches, weight.chunk(3)):
        (branch(x)[0] * part).sum().backward()
    for name, parameter in net.named_parameters():
        parts = [branch.get_parameter(name).grad for branch in branches]
        torch.testing.assert_close(parameter.grad, sum(parts), msg=name)


@torch.no_grad()
def test_norms_that_train_take_the_statistics_of_each_branch() -> None:
    net = trident(norm_eval=False).train()
    branches = [single(net, dilation, norm_eval=False).train() for dilation in DILATIONS]
    x = images(4)
    torch.testing.assert_close(net(x)[0], torch.cat([branch(x)[0] for branch in branches]), rtol=1e-4, atol=1e-4)
    updates = {name: int(m.num_batches_tracked) for name, m in net.layer3.named_modules() if isinstance(m, _BatchNorm)}
    once = {"0.bn1", "0.downsample.1"}  # what all branches share is computed once
    assert updates == {name: 1 if name in once else 3 for name in updates}


def test_recomputation_changes_no_gradient() -> None:
    """Upstream it raises."""
    plain, recomputed = trident(), trident(with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    for net in (plain, recomputed):
        net.train()(images())[0].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), recomputed.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_weights_start_as_those_of_other_convolutions() -> None:
    """Upstream they are what the memory held before."""
    for dilated in (m for m in trident(base_channels=32).modules() if isinstance(m, TridentConv)):
        assert dilated.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
        assert abs(dilated.weight.mean().item()) < 1e-3


def test_a_frozen_last_stage_is_in_eval() -> None:
    assert trident(frozen_stages=3).train()(images())[0].shape[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_branch": 2}, r"trident_dilations: needs 2 values, one for each of num_branch, got \(1, 2, 3\)"),
        ({"trident_dilations": (1, 0, 2)}, r"trident_dilations\[1\]: must be 1 or more, got 0"),
        ({"test_branch_idx": 3}, r"test_branch_idx: must be from -1 \(all\) over 0 to 2, got 3"),
        ({"num_stages": 4}, "num_stages: must be 3, got 4"),
        ({"dilations": (1, 1, 2)}, r"dilations\[2\]: the last stage's are trident_dilations, not 2"),
        (
            {"dcn": {"type": "DCNv2"}, "stage_with_dcn": (False, True, True)},
            r"stage_with_dcn\[2\]: must be False: the last stage's 3x3s have branches",
        ),
        ({"multi_grid": (1, 2)}, "has no argument 'multi_grid'"),
    ],
)
def test_bad_input_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trident(**options)


def test_depths_of_basic_blocks_have_no_trident() -> None:
    with pytest.raises(ConfigError, match=r"depth: must be one of .*50, 101, 152.* got 18"):
        TridentResNet(18, num_branch=1, test_branch_idx=0, trident_dilations=(1,))
