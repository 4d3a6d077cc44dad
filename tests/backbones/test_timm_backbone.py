"""TimmBackbone: nets of timm under this library's contract."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import timm
import torch

from backbone_kit import ConfigError, build_backbone, from_openmmlab
from backbone_kit.backbones import TimmBackbone

KINDS = {  # one of each way in which timm takes features
    "resnet10t": 64,
    "convnext_atto": 64,
    "swin_s3_tiny_224": 224,  # channels last inside
    "test_efficientnet": 64,
    "mobilenetv3_small_050": 64,
    "test_vit": 160,
    "densenet121": 64,
    "dpn68": 64,
    "xception41": 64,
}
HEAVY = ("swin_s3_tiny_224", "densenet121", "xception41", "dpn68", "convnext_atto")
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "size"), [pytest.param(*kind, marks=SLOW if kind[0] in HEAVY else ()) for kind in KINDS.items()]
)
@torch.no_grad()
def test_maps_are_timms_in_the_order_that_is_asked_for(name: str, size: int) -> None:
    torch.manual_seed(0)
    peer = timm.create_model(name, features_only=True).eval()
    torch.manual_seed(0)
    net = TimmBackbone(name).eval()
    for ours, theirs in zip(net.state_dict().values(), peer.state_dict().values(), strict=True):
        ours.copy_(theirs)
    x = torch.randn(1, 3, size, size)
    theirs = [y.permute(0, 3, 1, 2) if str(getattr(peer, "output_fmt", "")).endswith("NHWC") else y for y in peer(x)]
    theirs = theirs[-len(net.out_indices) :]
    for ours, expected in zip(net(x), theirs, strict=True):
        torch.testing.assert_close(ours, expected)
    last = len(theirs) - 1
    reordered = build_backbone({"type": "TimmBackbone", "model_name": name}, out_indices=(last, 0)).eval()
    reordered.load_state_dict(net.state_dict())
    for ours, expected in zip(reordered(x), (theirs[last], theirs[0]), strict=True):
        torch.testing.assert_close(ours, expected)
    assert reordered.out_channels == (theirs[last].shape[1], theirs[0].shape[1])
    assert reordered.out_strides == tuple(peer.feature_info.reduction()[i] for i in (-1, -len(theirs)))


def test_index_0_has_stride_4() -> None:
    assert TimmBackbone("resnet10t").out_strides == (4, 8, 16, 32)
    assert TimmBackbone("test_convnext").out_strides == (4, 8, 16, 32)


# timm's resnet10t has a map of stride 2 before the others, its convnext_atto none.
@pytest.mark.parametrize(
    ("name", "indices"), [("resnet10t", (2, 4)), ("convnext_atto", (1, 3)), ("resnet10t", (-3, -1))]
)
@torch.no_grad()
def test_openmmlabs_wrapper_is_ours_with_timms_indices(name: str, indices: tuple[int, ...]) -> None:
    cfg = dict(type="mmcls.TIMMBackbone", model_name=name, features_only=True, pretrained=False, in_channels=1)
    given = {**cfg, "out_indices": indices, "drop_path_rate": 0.1}
    before = copy.deepcopy(given)
    net = build_backbone(given).eval()
    assert given == before
    peer = timm.create_model(name, features_only=True, in_chans=1, out_indices=indices, drop_path_rate=0.1).eval()
    assert net.out_strides == tuple(peer.feature_info.reduction())
    net.load_state_dict(dict(zip(net.state_dict(), peer.state_dict().values(), strict=True)))
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(list(net(x)), peer(x))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"pretrained": True}, "timm://resnet10t"),
        ({"checkpoint_path": "file.pth"}, "file.pth"),
        ({"pretrained": False}, None),
    ],
)
def test_weights_of_openmmlabs_wrapper_are_named(options: dict[str, object], weights: str | None) -> None:
    cfg = dict(type="TIMMBackbone", model_name="resnet10t", features_only=True, out_indices=(1, 2))
    assert from_openmmlab({**cfg, **options}, "mmpretrain").get("pretrained") == weights


def test_what_openmmlabs_wrapper_gives_and_ours_does_not_is_told() -> None:
    cfg = dict(type="mmpretrain.TIMMBackbone", model_name="resnet10t")
    with pytest.raises(ConfigError, match="features_only: must be True"):
        build_backbone(cfg)
    with pytest.raises(ConfigError, match=r"'out_indices' is missing: .*such as out_indices=\(1, 2, 3, 4\)"):
        build_backbone({**cfg, "features_only": True})


@pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")
@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "test_efficientnet"])
def test_stages_freeze_in_the_order_in_which_they_run(name: str) -> None:
    for frozen in range(5):
        net = TimmBackbone(name, frozen_stages=frozen).train()
        outs = net(torch.randn(2, 3, 64, 64))
        assert [out.requires_grad for out in outs] == [index > frozen for index in range(1, 5)]
        held = [name for part in net.describe()[: frozen + 1] for name in part["modules"]]
        assert held
        assert not any(layer.training for part in held for layer in net.get_submodule(part).modules())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_convnext", 64),
        ("test_vit", 160),
        ("mobilenetv3_small_050", 64),
        pytest.param("xception41", 64, marks=SLOW),
    ],
)
@torch.no_grad()
def test_a_file_of_timm_loads_under_its_own_keys(name: str, size: int, tmp_path: Path) -> None:
    peer = timm.create_model(name).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in peer.state_dict().items()}}, tmp_path / "weights.pth")
    cfg = {"type": "TimmBackbone", "model_name": name}
    net = build_backbone(cfg, pretrained=str(tmp_path / "weights.pth")).eval()
    assert not net.load_report.missing
    for key, value in net.state_dict().items():
        assert torch.equal(value, peer.state_dict()[net.aliases.get(key, key)])
    x = torch.randn(1, 3, size, size)
    if name != "xception41":  # whose intermediates timm does not give
        torch.testing.assert_close(net(x)[-1], peer.forward_intermediates(x, intermediates_only=True)[-1])
    again = build_backbone(cfg)
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again.eval()(x), net(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": "resnt50"}, "model_name: timm .* has no 'resnt50'; did you mean 'resnet50'"),
        ({"model_name": "resnet10t", "model_args": {"widht": 2}}, "model_args: timm's resnet10t refuses them: .*widht"),
        (
            {"model_name": "resnet10t", "timm_indices": (0, 1)},
            "timm_indices: 0 is the stem's map, of stride 2: `forward_i",
        ),
        ({"model_name": "resnet10t", "timm_indices": (5,)}, "timm_indices: 5 is out of range: timm has 0 to 4"),
        ({"model_name": "resnet10t", "timm_indices": (1,), "out_indices": (0,)}, "timm_indices: counts otherwise"),
        ({"model_name": "xception41", "frozen_stages": 1}, "frozen_stages: timm does not say which layers"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(**options)


def test_a_missing_timm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm; install the extra: pip install 'backbone_kit\[timm\]'"):
        TimmBackbone("resnet18")
