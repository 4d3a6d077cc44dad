"""segmentation_models_pytorch's nets on our backbones."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from backbone_kit import ConfigError, build_backbone
from backbone_kit.adapters import as_smp
from backbone_kit.finetune import freeze_unused

from .training import loaded, one_step


@pytest.mark.parametrize(
    ("kind", "output_stride"),
    [(smp.Unet, None), (smp.FPN, None), (smp.DeepLabV3Plus, 16), (smp.DeepLabV3, 8), (smp.UPerNet, None)],
)
def test_a_model_trains(kind, output_stride: int | None) -> None:
    torch.manual_seed(0)
    net = loaded(output_stride=output_stride)
    model = kind(as_smp(net), encoder_weights=None, classes=3)
    assert model.encoder.body is net
    one_step(model, net, lambda: model(torch.rand(2, 3, 64, 64)).square().mean())
    assert model.eval()(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("name", "widths"),
    [("resnet18", [3, 64, 64, 128, 256, 512]), ("convnext_atto", [3, 0, 40, 80, 160, 320]), ("vgg11", None)],
)
def test_maps_are_what_the_encoder_says(name: str, widths: list[int] | None) -> None:
    encoder = smp.Unet(as_smp(build_backbone(name)), encoder_weights=None).encoder.eval()
    maps = encoder(torch.rand(1, 3, 64, 128))
    assert [m.shape[1] for m in maps] == encoder.out_channels
    assert [tuple(m.shape[2:]) for m in maps] == [(64 >> k, 128 >> k) for k in range(6)]
    assert widths is None or encoder.out_channels == widths


def test_depth_takes_as_many_maps() -> None:
    encoder = smp.Unet(
        as_smp(build_backbone("resnet18")), encoder_depth=3, decoder_channels=(32, 16, 8), encoder_weights=None
    ).encoder
    assert encoder.out_channels == [3, 64, 64, 128]
    assert encoder.output_stride == 8


@pytest.mark.parametrize(("depth", "unused"), [(5, set()), (4, {"layer4"})])
def test_what_it_reads_beyond_out_indices_is_in_use(depth: int, unused: set[str]) -> None:
    encoder = as_smp(build_backbone("resnet18", out_indices=(1,)))
    model = smp.Unet(encoder, encoder_depth=depth, decoder_channels=(8,) * depth, encoder_weights=None)
    assert {name.removeprefix("encoder.body.").split(".")[0] for name in freeze_unused(model)} == unused


def test_maps_of_a_dilated_net_are_all_there() -> None:
    encoder = smp.DeepLabV3(
        as_smp(build_backbone("resnet18_d8")), encoder_weights=None, encoder_output_stride=8
    ).encoder
    shapes = [tuple(m.shape[1:]) for m in encoder.eval()(torch.rand(1, 3, 64, 64))]
    assert shapes == [(3, 64, 64), (64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 8, 8), (512, 8, 8)]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (smp.Unet, dict(output_stride=16), r"needs 1 map.* of stride 32, .* has \[2, 4, 8, 16, 16\]"),
        (smp.DeepLabV3Plus, {}, r"needs 2 map.* of stride 16, .* build it with output_stride=16"),
        (smp.Unet, dict(in_channels=4), "in_channels: the backbone takes 4, got 3"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(model, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(as_smp(build_backbone("resnet18", **options)), encoder_weights=None)
