"""Where mean, std and channel order come from."""

import pytest
import torch

from backbone_kit import ConfigError
from backbone_kit.cli.preprocessing import Preprocessing, find_preprocessing

MEAN, STD = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
NUMBERS = dict(mean=MEAN, std=STD)


@pytest.mark.parametrize(
    ("config", "order", "source"),
    [
        (dict(model=dict(data_preprocessor=dict(**NUMBERS, bgr_to_rgb=True))), "RGB", "model.data_preprocessor"),
        (dict(data_preprocessor=NUMBERS), "BGR", "data_preprocessor"),
        (dict(data_preprocessor=dict(**NUMBERS, to_rgb=True)), "RGB", "data_preprocessor"),
        (dict(img_norm_cfg=dict(**NUMBERS, to_rgb=False)), "BGR", "img_norm_cfg"),
        (dict(train_pipeline=[dict(type="Flip"), dict(type="mmdet.Normalize", **NUMBERS)]), "RGB", "train_pipeline[1]"),
        (dict(data_preprocessor=dict(pad=1), img_norm_cfg=NUMBERS), "RGB", "img_norm_cfg"),
    ],
)
def test_found_in_every_place(config, order, source):
    assert find_preprocessing(config) == Preprocessing((1, 2, 3), (4, 5, 6), order, source)


def test_imagenet_where_the_config_names_none():
    found = find_preprocessing(dict(type="ResNet"))
    assert found.mean == (123.675, 116.28, 103.53)
    assert "ImageNet" in found.source


def test_numbers_for_pixels_from_0_to_1_are_scaled():
    found = find_preprocessing(dict(img_norm_cfg=dict(mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])))
    assert (found.mean, found.std) == ((127.5,) * 3, (51.0,) * 3)


@pytest.mark.parametrize("bad", [dict(mean=[1, 2], std=STD), dict(mean=MEAN, std=[1, 0, 1]), dict(mean=MEAN)])
def test_what_cannot_be_used_is_refused(bad):
    with pytest.raises(ConfigError, match=r"img_norm_cfg\.(mean|std): must be"):
        find_preprocessing(dict(img_norm_cfg=bad))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), True, 10**400, "1"])
def test_a_mean_is_finite(bad):
    with pytest.raises(ConfigError, match=r"data_preprocessor\.mean: must be three finite numbers"):
        find_preprocessing(dict(data_preprocessor=dict(mean=[1.0, 2.0, bad], std=STD)))


@pytest.mark.parametrize("key", ["bgr_to_rgb", "to_rgb"])
def test_a_swap_is_true_or_false(key):
    with pytest.raises(ConfigError, match=rf"data_preprocessor\.{key}: must be true or false, got 'no'"):
        find_preprocessing({"data_preprocessor": {**NUMBERS, key: "no"}})


def test_channels_are_normalised_in_their_order():
    picture = torch.tensor([[[10, 20, 30]]], dtype=torch.uint8)
    x = Preprocessing((1, 2, 3), (1, 2, 3), "BGR", "")(picture)
    assert x.flatten().tolist() == pytest.approx([29.0, 9.0, 7 / 3])
