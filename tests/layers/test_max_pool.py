"""A max pool that rounds up, also where it is exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from backbone_kit.layers.max_pool import CeilMaxPool2d

from ..torch_versions import dynamic_export


@dynamic_export
@pytest.mark.parametrize("size", [(7, 9), (8, 7), (6, 8)])
def test_exported_for_any_size_it_is_pytorchs_ceil_mode(size: tuple[int, int]) -> None:
    dims = {2: torch.export.Dim("h", min=3), 3: torch.export.Dim("w", min=3)}
    program = torch.export.export(CeilMaxPool2d(), (torch.randn(1, 1, 12, 14),), dynamic_shapes=(dims,))
    x = torch.randn(1, 1, *size) - 5
    expected = nn.MaxPool2d(2, 2, ceil_mode=True)(x)
    assert torch.equal(program.module()(x), expected)
    assert torch.equal(CeilMaxPool2d()(x), expected)
