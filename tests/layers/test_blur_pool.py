"""BlurPool2d equals timm's and the filter it is named after."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit import ConfigError
from backbone_kit.layers.blur_pool import BlurPool2d

from .graphs import compiles_trains_and_exports


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("filt_size", [3, 4, 5])
@pytest.mark.parametrize("size", [(8, 10), (7, 13)])
def test_equals_timm(stride: int, filt_size: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    peer = timm.layers.BlurPool2d(3, filt_size=filt_size, stride=stride).double()
    torch.testing.assert_close(BlurPool2d(3, stride, filt_size)(x), peer(x))


def test_an_impulse_becomes_the_binomial_filter() -> None:
    x = torch.zeros(1, 1, 7, 7)
    x[..., 3, 3] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(BlurPool2d(stride=1)(x)[0, 0, 2:5, 2:5], expected)


def test_compiles_trains_and_exports() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), BlurPool2d(4))
    compiles_trains_and_exports(net, torch.randn(2, 4, 9, 12), torch.randn(3, 4, 12, 10))


def test_a_filter_of_one_pixel_is_refused() -> None:
    with pytest.raises(ConfigError, match="filt_size: must be 2 or more, got 1"):
        BlurPool2d(filt_size=1)
