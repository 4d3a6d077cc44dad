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
from backbone_kit.backbones import TridentResNet
from backbone_kit.optimize import prepare_for_inference

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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(fpn=False, names=("aux", "out")), r"names: must be 4, one for each map, got \['aux', 'out'\]"),
        (dict(names="0123"), r"names: must be a list \(a string each\) or None, got '0123' \(str\)"),
        (dict(fpn=False, names=("a", "b", "out", "out")), r"names: must all differ, got \['a', 'b', 'out', 'out'\]"),
        (dict(names=("a", "b", "c", "pool")), r"names: must all differ, and differ from 'pool' on top of the pyramid"),
        (dict(top="p6"), "top: must be 'auto' or 'pool' or 'p6p7' or None, got 'p6'"),
        (dict(fpn=False, top="pool"), "top: is for a pyramid, and fpn=False builds none, got 'pool'; leave it out"),
        (dict(fpn=False, out_channels=64), "out_channels: is for a pyramid, and fpn=False builds none, got 64; leave"),
        (dict(out_channels=0), "out_channels: must be positive, got 0"),
        (dict(out_channels="64"), r"out_channels: must be an int or None, got '64' \(str\)"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        as_torchvision(build_backbone("resnet18"), **options)


def test_a_pyramid_needs_maps_from_fine_to_coarse() -> None:
    with pytest.raises(ConfigError, match=r"fpn: .* these have strides \[32, 4\]"):
        as_torchvision(build_backbone("resnet18", out_indices=(3, 0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(scale=0), "scale: must be positive, got 0"),
        (dict(scale=-1), "scale: must be positive, got -1"),
        (dict(octaves=0), "octaves: must be positive, got 0"),
        (dict(octaves=1.5), r"octaves: must be an int, got 1.5 \(float\)"),
        (dict(aspect_ratios=1.0), r"aspect_ratios: must be a list \(a number each\), got 1.0 \(float\)"),
    ],
)
def test_anchors_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        anchors_for(build_backbone("resnet18"), **options)


def test_several_branches_are_refused_where_they_run() -> None:
    options = dict(num_branch=3, trident_dilations=(1, 2, 3), layers=(1, 1, 1), base_channels=4, out_indices=(2,))
    options |= dict(norm_eval=False, frozen_stages=-1)
    model = as_torchvision(TridentResNet(50, test_branch_idx=1, **options), out_channels=8)
    x = torch.rand(2, 3, 64, 64)
    assert {len(y) for y in model.eval()(x).values()} == {2}
    with pytest.raises(ConfigError, match=r"backbone: map '0' has 6 pictures for 2.* num_branch=1 to train"):
        model.train()(x)


def test_a_prepared_backbone_gives_its_maps() -> None:
    x = torch.rand(1, 3, 64, 64)
    prepared = prepare_for_inference(build_backbone("resnet18").eval(), x, compiled=False)
    assert list(as_torchvision(prepared, fpn=False)(x)) == ["0", "1", "2", "3"]
