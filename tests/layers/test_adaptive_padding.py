"""Padding by size equals timm's layer that imitates TensorFlow."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit.layers import Conv2dAdaptivePadding, build_conv_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

SHAPES = [
    dict(kernel_size=3),
    dict(kernel_size=3, stride=2),
    dict(kernel_size=(5, 2), stride=(1, 3)),
    dict(kernel_size=4),
    dict(kernel_size=1, stride=2),
    dict(kernel_size=3, stride=2, dilation=2, groups=2),
    dict(kernel_size=3, dilation=(3, 1)),
    dict(kernel_size=2, stride=5),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(7, 8), (8, 7), (13, 2), (1, 1)])
def test_equals_timms(shape, size):
    ours, x = Conv2dAdaptivePadding(4, 6, **shape).double(), torch.randn(2, 4, *size).double()
    theirs = timm.layers.Conv2dSame(4, 6, **shape).double()
    theirs.load_state_dict(ours.state_dict())
    y = ours(x)
    torch.testing.assert_close(y, theirs(x))
    assert y.shape[2:] == tuple(-(-length // stride) for length, stride in zip(size, ours.stride))


def test_the_padding_that_blocks_pass_changes_nothing():
    layer = build_conv_layer(dict(type="Conv2dAdaptivePadding"), 4, 6, 3, padding=7, bias=False)
    assert layer(torch.randn(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    assert list(layer.state_dict()) == ["weight"]


def test_stride_1_pads_within_the_convolution():
    assert Conv2dAdaptivePadding(4, 6, 3, dilation=2).padding == (2, 2)


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize("shape", [dict(kernel_size=3, stride=2), dict(kernel_size=3)])
def test_compiles_and_exports(shape):
    layer = Conv2dAdaptivePadding(2, 3, **shape)
    compiles_trains_and_exports(layer, torch.randn(2, 2, 8, 9), torch.randn(3, 2, 7, 12))
    assert isinstance(layer, nn.Conv2d)


def test_gradients():
    layer, x = Conv2dAdaptivePadding(2, 3, 3, 2).double(), torch.randn(1, 2, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.weight, layer.bias))
