"""Stochastic depth."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import DropPath


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 5, 5)])
def test_samples_are_dropped_whole_and_the_others_scaled(shape):
    torch.manual_seed(0)
    x = torch.rand(shape) + 1
    factor = (DropPath(0.25)(x) / x).flatten(1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert all(torch.isclose(f, torch.tensor([0.0, 4 / 3])).any() for f in factor[:, 0])


def test_rate_and_mean_are_right():
    torch.manual_seed(0)
    y = DropPath(0.3)(torch.ones(20000, 1))
    assert abs((y == 0).float().mean() - 0.3) < 4 * (0.3 * 0.7 / 20000) ** 0.5
    torch.manual_seed(0)
    peer = timm.layers.DropPath(0.3)(torch.ones(20000, 1))
    torch.testing.assert_close(y.unique(), peer.unique())


def test_eval_and_zero_return_the_input_itself():
    x = torch.randn(2, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0)(x) is x


def test_one_drops_everything():
    assert not DropPath(1.0)(torch.ones(4, 3)).any()


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match=f"drop_prob: must be between 0 and 1, got {value}"):
        DropPath(value)


@pytest.mark.parametrize("training", [True, False])
def test_exports(training):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), DropPath(0.5)).train(training)
    program = torch.export.export(net, (torch.randn(2, 3, 4, 4),))
    assert program.module()(torch.randn(2, 3, 4, 4)).shape == (2, 4, 4, 4)
