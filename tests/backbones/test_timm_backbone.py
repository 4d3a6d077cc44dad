"""TimmBackbone: nets of timm under this library's contract."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch

from backbone_kit import ConfigError, build_backbone
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


@pytest.mark.parametrize(("name", "size"), KINDS.items())
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


@torch.no_grad()
def test_a_file_of_timm_loads_under_its_own_keys(tmp_path: Path) -> None:
    peer = timm.create_model("test_convnext")
    torch.save(peer.state_dict(), tmp_path / "weights.pth")
    net = build_backbone(
        {"type": "TimmBackbone", "model_name": "test_convnext"}, pretrained=str(tmp_path / "weights.pth")
    )
    x = torch.randn(1, 3, 64, 64)
    expected = peer.eval().forward_intermediates(x, intermediates_only=True)
    torch.testing.assert_close(net.eval()(x)[-1], expected[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": "resnt50"}, "model_name: timm .* has no 'resnt50'; did you mean 'resnet50'"),
        ({"model_name": "resnet10t", "model_args": {"widht": 2}}, "model_args: timm's resnet10t refuses them: .*widht"),
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
