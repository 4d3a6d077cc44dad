"""Branches merged into one convolution: exact, and refused where it could not be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import freeze_batch_norms
from backbone_kit.layers.branches import build_branch, merged_branches, sum_of_branches

from .test_ghost import moved

BN: dict[str, Any] = {"conv_cfg": None, "norm_cfg": {"type": "BN"}}


def branches(groups: int = 1, stride: int = 1, **types: Any) -> nn.ModuleList:
    """Kernels of several sizes, and the identity where the stride leaves it possible."""
    types = {**BN, **types}
    shapes = [
        {"kernel_size": 1},
        {"kernel_size": (3, 5), "padding": (1, 2)},
        {"kernel_size": (1, 5), "padding": (0, 2)},
    ]
    convs = [build_branch(6, 6, groups=groups, stride=stride, **shape, **types) for shape in shapes]
    return nn.ModuleList([nn.BatchNorm2d(6), *convs] if stride == 1 else convs)


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (6, 1), (3, 2)])
@pytest.mark.parametrize("freeze", [False, True])
@torch.no_grad()
def test_merged_they_compute_their_sum(groups, stride, freeze):
    parts = moved(branches(groups, stride)).double()
    if freeze:
        freeze_batch_norms(parts)
    x = torch.randn(2, 6, 9, 12).double()
    torch.testing.assert_close(merged_branches(parts)(x), sum_of_branches(parts, x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_norms_without_scale_and_shift_merge_too():
    parts = moved(branches(norm_cfg={"type": "BN", "affine": True}))
    for part in parts[1:]:
        part.bn1 = nn.BatchNorm2d(6, affine=False).eval()
        nn.init.uniform_(part.bn1.running_var, 0.5, 1.5)
    x = torch.randn(2, 6, 9, 12).double()
    parts.double()
    torch.testing.assert_close(merged_branches(parts)(x), sum_of_branches(parts, x), rtol=1e-12, atol=1e-12)


def test_what_holds_for_a_branch_holds_for_the_merged_convolution():
    parts = branches(groups=2, conv_cfg={"type": "Conv2d", "padding_mode": "circular"})
    parts.requires_grad_(False).eval().to(torch.bfloat16, memory_format=torch.channels_last)
    merged = merged_branches(parts)
    assert not merged.training
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    assert merged.weight.is_contiguous(memory_format=torch.channels_last)
    assert merged.padding_mode == "circular"
    trained = merged_branches(branches())
    assert trained.training
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in trained.parameters())


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"norm_cfg": {"type": "GN", "num_groups": 2}}, "norm_cfg: a GroupNorm cannot be merged into a convolution"),
        ({"norm_cfg": {"type": "BN", "track_running_stats": False}}, "norm_cfg: a BatchNorm2d cannot be merged"),
        ({"conv_cfg": {"type": "ConvWS"}}, "conv_cfg: a ConvWS2d cannot be merged, only a Conv2d can"),
    ],
)
def test_what_cannot_be_merged_is_told(types, message):
    with pytest.raises(ConfigError, match=message):
        merged_branches(branches(**types))
