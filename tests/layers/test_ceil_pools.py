"""Pools that round up, also where they are exported or compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from backbone_kit.layers.average_pool import CeilAvgPool2d
from backbone_kit.layers.max_pool import CeilMaxPool2d

from ..torch_versions import dynamic_export

Makes = Callable[[], nn.Module]
POOLS = pytest.mark.parametrize(
    ("make", "torchs"),
    [
        (CeilMaxPool2d, lambda: nn.MaxPool2d(2, 2, ceil_mode=True)),
        (lambda: CeilAvgPool2d(2), lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)),
    ],
    ids=["maximum", "mean"],
)
SIZES = ((7, 9), (8, 7), (6, 8))


@dynamic_export
@POOLS
def test_exported_for_any_size_it_is_pytorchs_ceil_mode(make: Makes, torchs: Makes) -> None:
    dims = {2: torch.export.Dim("h", min=3), 3: torch.export.Dim("w", min=3)}
    program = torch.export.export(make(), (torch.randn(1, 1, 12, 14),), dynamic_shapes=(dims,))
    for size in SIZES:
        x = torch.randn(1, 1, *size) - 5
        torch.testing.assert_close(program.module()(x), torchs()(x))
        assert torch.equal(make()(x), torchs()(x))


@pytest.mark.slow
@POOLS
def test_inductor_compiles_it_once_for_odd_and_even_sizes(make: Makes, torchs: Makes) -> None:
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(make(), dynamic=True)
    for size in SIZES:
        x = torch.randn(2, 3, *size).requires_grad_()
        expected = torchs()(x)
        weights = torch.randn_like(expected)
        torch.testing.assert_close(compiled(x), expected)
        (ours,), (theirs,) = (torch.autograd.grad((y * weights).sum(), x) for y in (compiled(x), expected))
        torch.testing.assert_close(ours, theirs)
    assert counters["stats"]["unique_graphs"] == 1
