"""Rectified convolution: its factors counted tap by tap, and what it shares with a plain one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import RFConv2d, build_conv_layer

from .graphs import compiles_trains_and_exports

SHAPES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=3, padding=4, dilation=4, stride=2),
    dict(kernel_size=(5, 3), padding=(2, 0), stride=(1, 2), groups=2),
]


def like(plain: nn.Conv2d, **options: bool) -> RFConv2d:
    """The rectified convolution of the same shape and weights."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    layer = RFConv2d(**{name: getattr(plain, name) for name in names}, **options).double()
    layer.load_state_dict(plain.state_dict())
    return layer


def valid_taps(conv: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """How many taps lie in the map at each output pixel, counted by hand."""
    counts = []
    for length, k, s, p, d in zip(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation):
        steps = (length + 2 * p - d * (k - 1) - 1) // s + 1
        counts.append([sum(0 <= step * s - p + tap * d < length for tap in range(k)) for step in range(steps)])
    return torch.tensor([[rows * columns for columns in counts[1]] for rows in counts[0]]).double()


@pytest.mark.parametrize("shape", SHAPES)
def test_each_pixel_is_scaled_by_its_taps_over_those_in_the_map(shape):
    plain, x = nn.Conv2d(4, 6, **shape).double(), torch.randn(2, 4, 11, 9).double()
    taps, valid = plain.kernel_size[0] * plain.kernel_size[1], valid_taps(plain, (11, 9))
    torch.testing.assert_close(like(plain)(x), plain(x) * taps / valid)
    torch.testing.assert_close(like(plain, average_mode=True)(x), plain(x) / valid)


@pytest.mark.parametrize(("dilation", "inside"), [(1, 1.0), (2, 25 / 9), (4, 81 / 9)])
def test_the_window_area_of_the_original_scales_the_inside_when_dilated(dilation, inside):
    plain, x = nn.Conv2d(2, 3, 3, padding=dilation, dilation=dilation).double(), torch.randn(1, 2, 19, 19).double()
    factor = like(plain, window_area=True)(x) / plain(x)
    assert factor[0, 0, 9, 9].item() == pytest.approx(inside)
    torch.testing.assert_close(factor[0, 0], (2 * dilation + 1) ** 2 / valid_taps(plain, (19, 19)))


def test_without_padding_it_is_a_plain_convolution():
    plain, x = nn.Conv2d(2, 3, 3).double(), torch.randn(1, 2, 7, 7).double()
    torch.testing.assert_close(like(plain)(x), plain(x), rtol=0, atol=0)
    torch.testing.assert_close(like(plain, average_mode=True)(x), plain(x) / 9)


def test_a_map_of_ones_stays_one_value_up_to_the_border():
    layer = RFConv2d(1, 1, 5, padding="same", dilation=2, bias=False)
    nn.init.ones_(layer.weight)
    torch.testing.assert_close(layer(torch.ones(1, 1, 12, 10)), torch.full((1, 1, 12, 10), 25.0))


def test_it_is_a_conv_layer_by_name():
    layer = build_conv_layer(dict(type="RFConv", average_mode=True), 2, 4, 3, padding=1, bias=False)
    assert (type(layer), layer.average_mode) == (RFConv2d, True)
    assert list(layer.state_dict()) == ["weight"]


def test_what_would_have_no_effect_is_refused():
    with pytest.raises(ConfigError, match="padding_mode: must be 'zeros': others leave no gap, got 'circular'"):
        RFConv2d(2, 2, 3, padding=1, padding_mode="circular")
    with pytest.raises(ConfigError, match="window_area: has no effect with average_mode=True"):
        RFConv2d(2, 2, 3, padding=1, average_mode=True, window_area=True)


def test_gradients():
    layer, x = RFConv2d(2, 3, 3, padding=1, stride=2).double(), torch.randn(1, 2, 5, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.weight, layer.bias))


def test_compiles_and_exports():
    compiles_trains_and_exports(
        RFConv2d(2, 3, 3, padding=2, dilation=2), torch.randn(2, 2, 8, 9), torch.randn(3, 2, 7, 12)
    )
