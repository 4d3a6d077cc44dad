"""The first convolution makes up for pictures that are prepared in another way: exactly, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_kit import CheckpointError
from backbone_kit.backbones import ResNet
from backbone_kit.checkpoint.preprocessing import Preprocessing, fold_preprocessing

TORCH = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB", 1)
MMDET = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Preprocessing((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "BGR")
DETECTRON = Preprocessing((102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0), "BGR")
HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "BGR", 1)
ALL = [TORCH, MMDET, CAFFE, DETECTRON, HALF]


def prepared(picture: Tensor, how: Preprocessing) -> Tensor:
    """An RGB picture with values from 0 to 255, as a loader prepares it."""
    x = picture * (how.range / 255)
    x = x if how.channel_order == "RGB" else x.flip(1)
    return (x - x.new_tensor(how.mean).view(3, 1, 1)) / x.new_tensor(how.std).view(3, 1, 1)


def picture() -> Tensor:
    return torch.randint(0, 256, (2, 3, 17, 19)).double()


def same_mean(a: Preprocessing, b: Preprocessing) -> bool:
    red = [torch.tensor(p.mean if p.channel_order == "RGB" else p.mean[::-1]) * 255 / p.range for p in (a, b)]
    return torch.allclose(*red, atol=1e-4)


@pytest.mark.parametrize("given", ALL)
@pytest.mark.parametrize("trained", ALL)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "circular"},
        {"padding": "valid"},
    ],
)
def test_a_convolution_without_zeros_gives_the_same_maps(
    how: dict[str, Any], bias: bool, trained: Preprocessing, given: Preprocessing
) -> None:
    conv = nn.Conv2d(3, 5, 3, bias=bias, dtype=torch.double, **how)
    x = picture()
    expected = conv(prepared(x, trained))
    weight = fold_preprocessing(conv, trained, given)
    torch.testing.assert_close(conv(prepared(x, given)), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(weight, conv.weight)


@pytest.mark.parametrize("given", ALL)
@pytest.mark.parametrize("trained", ALL)
def test_one_that_pads_with_zeros_does_where_the_means_are_the_same(
    trained: Preprocessing, given: Preprocessing
) -> None:
    conv = nn.Conv2d(3, 5, 7, stride=2, padding=3, bias=False, dtype=torch.double)
    x = picture()
    expected, before = conv(prepared(x, trained)), conv.weight.clone()
    if same_mean(trained, given):
        fold_preprocessing(conv, trained, given)
        torch.testing.assert_close(conv(prepared(x, given)), expected, rtol=1e-9, atol=1e-9)
        assert conv.bias is None
    else:
        with pytest.raises(
            CheckpointError, match="it pads with zeros, which stand for the mean; subtract the mean"
        ) as error:
            fold_preprocessing(conv, trained, given)
        assert torch.equal(conv.weight, before)
        mean = str(error.value).partition("the mean (")[2].partition(")")[0]  # what it says to do works
        advised = Preprocessing(tuple(map(float, mean.split(","))), given.std, given.channel_order, given.range)  # type: ignore[arg-type]
        fold_preprocessing(conv, trained, advised)
        torch.testing.assert_close(conv(prepared(x, advised)), expected, rtol=1e-4, atol=1e-4)


def test_a_whole_net_of_caffe_takes_pictures_of_torch() -> None:
    net = ResNet(18, base_channels=8, zero_init_residual=False).double().eval()
    x = torch.randint(0, 256, (1, 3, 64, 64)).double()
    with torch.no_grad():
        expected = net(prepared(x, CAFFE))
        fold_preprocessing(net, trained=CAFFE, given=TORCH)
        for ours, theirs in zip(net(prepared(x, TORCH)), expected):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_another_order_alone_changes_no_bit() -> None:
    weight = torch.randn(4, 3, 3, 3)
    bgr = Preprocessing(MMDET.mean[::-1], MMDET.std[::-1], "BGR")
    assert torch.equal(fold_preprocessing(weight, MMDET, bgr), weight.flip(1))
    there = fold_preprocessing(weight, MMDET, bgr)
    assert torch.equal(fold_preprocessing(there, bgr, MMDET), weight)


def test_a_frozen_stem_stays_frozen() -> None:
    conv = nn.Conv2d(3, 4, 4, stride=4).requires_grad_(False)
    fold_preprocessing(conv, CAFFE, HALF)
    assert not any(parameter.requires_grad for parameter in conv.parameters())


class Standardised(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("target", "trained", "given", "message"),
    [
        (torch.zeros(4, 3, 1, 1), DETECTRON, CAFFE, "its bias and padding are not known; subtract the mean"),
        (torch.zeros(4, 1, 3, 3), CAFFE, MMDET, r"must take 3 channels in one group, its weight is \(4, 1, 3, 3\)"),
        (nn.Conv2d(6, 4, 3, groups=2), CAFFE, MMDET, "must take 3 channels in one group"),
        (nn.Linear(3, 3), CAFFE, MMDET, "a Linear has no convolution"),
        (Standardised(3, 4, 3), CAFFE, MMDET, "no scale can be moved into a Standardised"),
    ],
)
def test_what_cannot_be_folded_says_why(target: Any, trained: Any, given: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fold_preprocessing(target, trained, given)


def test_a_standardised_convolution_takes_another_order() -> None:
    conv = Standardised(3, 4, 3)
    before = conv.weight.detach().clone()
    fold_preprocessing(conv, MMDET, Preprocessing(MMDET.mean[::-1], MMDET.std[::-1], "BGR"))
    assert torch.equal(conv.weight, before.flip(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 0, 0), (1, 1, 0)), "std positive"),
        (((0, 0), (1, 1, 1)), "mean and std must be 3 numbers"),
        (((0, 0, 0), (1, 1, 1), "GBR"), "channel_order must be 'RGB' or 'BGR', got 'GBR'"),
        (((0, 0, 0), (1, 1, 1), "RGB", 256), "range must be 1 or 255, got 256"),
    ],
)
def test_wrong_preprocessings_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Preprocessing(*arguments)
