"""torchvision's detectors and segmentation nets on our backbones."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.ops import MultiScaleRoIAlign

from backbone_kit import ConfigError, build_backbone
from backbone_kit.adapters import anchors_for, as_torchvision

from .training import loaded, one_step

SIZES = dict(min_size=90, max_size=128)  # 90 and 128 by 96: no multiples of 64
FINE = dict(out_indices=(1, 2, 3))


def rcnn(kind: type) -> torch.nn.Module:
    backbone = as_torchvision(loaded(), out_channels=16)
    return kind(backbone, 2, rpn_anchor_generator=anchors_for(backbone), **SIZES)


def c4() -> torch.nn.Module:
    backbone = as_torchvision(loaded(out_indices=(2,), prune_stages=True), fpn=False)
    pool = MultiScaleRoIAlign(["0"], 7, 2)
    return FasterRCNN(backbone, 2, rpn_anchor_generator=anchors_for(backbone), box_roi_pool=pool, **SIZES)


def retina_net() -> torch.nn.Module:
    backbone = as_torchvision(loaded(**FINE), out_channels=32, top="p6p7")
    return RetinaNet(backbone, 2, anchor_generator=anchors_for(backbone, scale=4, octaves=3), **SIZES)


def fcos() -> torch.nn.Module:
    backbone = as_torchvision(loaded(**FINE), out_channels=32, top="p6p7")
    return FCOS(backbone, 2, anchor_generator=anchors_for(backbone, scale=1, aspect_ratios=(1.0,)), **SIZES)


def ssd() -> torch.nn.Module:
    backbone = as_torchvision(loaded(**FINE), fpn=False)
    return SSD(backbone, DefaultBoxGenerator([[2]] * 3, steps=list(backbone.out_strides)), (128, 128), 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [lambda: rcnn(FasterRCNN), lambda: rcnn(MaskRCNN), lambda: rcnn(KeypointRCNN), c4, retina_net, fcos, ssd],
    ids=["FasterRCNN", "MaskRCNN", "KeypointRCNN", "FasterRCNN-C4", "RetinaNet", "FCOS", "SSD"],
)  # fmt: skip
def test_a_detector_trains_and_detects(build) -> None:
    torch.manual_seed(0)
    model = build()
    pictures = [torch.rand(3, 100, 120), torch.rand(3, 90, 128)]
    box = dict(boxes=torch.tensor([[10.0, 10, 60, 70]]), labels=torch.tensor([1]))
    box["keypoints"] = torch.tensor([[30.0, 40, 1]]).expand(1, 17, 3)
    targets = [dict(box, masks=torch.ones(1, *picture.shape[1:])) for picture in pictures]
    one_step(model, model.backbone.body, lambda: sum(model(pictures, targets).values()))
    assert {"boxes", "labels", "scores"} <= set(model.eval()(pictures)[0])


@pytest.mark.parametrize(("kind", "head"), [(DeepLabV3, DeepLabHead), (FCN, FCNHead)])
def test_a_segmentation_net_trains(kind, head) -> None:
    net = loaded(output_stride=8, out_indices=(2, 3))
    model = kind(as_torchvision(net, fpn=False, names=("aux", "out")), head(512, 3), FCNHead(256, 3))
    assert model.train()(torch.rand(2, 3, 64, 48))["out"].shape == (2, 3, 64, 48)
    one_step(model, net, lambda: sum(y.square().mean() for y in model(torch.rand(2, 3, 64, 64)).values()))


@pytest.mark.parametrize("top", ["pool", "p6p7", None])
def test_strides_are_those_of_all_maps(top) -> None:
    backbone = as_torchvision(build_backbone("resnet18"), out_channels=8, top=top).eval()
    maps = backbone(torch.rand(1, 3, 256, 512))
    assert [(256 // m.shape[2], 512 // m.shape[3]) for m in maps.values()] == [(s, s) for s in backbone.out_strides]
    assert {m.shape[1] for m in maps.values()} == {8}


def test_anchors_are_torchvisions_where_its_strides_are_true() -> None:
    backbone = as_torchvision(build_backbone("resnet18"), out_channels=8)
    pictures = ImageList(torch.empty(2, 3, 128, 256), [(128, 256), (100, 200)])
    maps = [torch.empty(2, 8, 128 // s, 256 // s) for s in backbone.out_strides]
    theirs = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)(pictures, maps)
    ours = anchors_for(backbone)(pictures, maps)
    assert len(ours) == 2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_anchors_stand_on_the_pixels_of_the_maps() -> None:
    backbone = as_torchvision(build_backbone("resnet18", **FINE), out_channels=8, top="p6p7")
    height, width = 800, 1344
    shapes = [(-(-height // s), -(-width // s)) for s in backbone.out_strides]
    assert shapes[-2:] == [(13, 21), (7, 11)]  # 800 / 7 is 114, and not 128
    maps = [torch.empty(1, 8, *shape) for shape in shapes]
    generator = anchors_for(backbone, scale=4, octaves=3)
    (anchors,) = generator(ImageList(torch.empty(1, 3, height, width, device="meta"), [(height, width)]), maps)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    per_map = centres.split([9 * h * w for h, w in shapes])
    for stride, (h, w), points in zip(backbone.out_strides, shapes, per_map):
        grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1).flip(-1) * stride
        torch.testing.assert_close(points.view(h, w, 9, 2), grid.float()[:, :, None].expand(-1, -1, 9, -1))
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt()
    assert sides[1 * 3 : 6].tolist() == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)], abs=1)


def test_maps_and_names_must_be_as_many() -> None:
    with pytest.raises(ConfigError, match=r"names: must be 4, one for each map, got \['aux', 'out'\]"):
        as_torchvision(build_backbone("resnet18"), fpn=False, names=("aux", "out"))


def test_a_pyramid_needs_maps_from_fine_to_coarse() -> None:
    with pytest.raises(ConfigError, match=r"fpn: .* these have strides \[32, 4\]"):
        as_torchvision(build_backbone("resnet18", out_indices=(3, 0)))


def test_an_unknown_top_is_refused() -> None:
    with pytest.raises(ConfigError, match="top: must be 'pool', 'p6p7' or None, got 'p6'"):
        as_torchvision(build_backbone("resnet18"), top="p6")
