"""Names mean the weights that their libraries mean by them; weights that would compute something else are refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit import CheckpointError, build_backbone, load_checkpoint
from backbone_kit.backbones import ResNet
from backbone_kit.checkpoint import entry as entries
from backbone_kit.checkpoint.download import kept_at
from backbone_kit.checkpoint.entry import WeightEntry, fetch_entry, find_entry, schemes
from backbone_kit.checkpoint.fit import check_fit
from backbone_kit.checkpoint.io import read_checkpoint
from backbone_kit.checkpoint.layouts import LAYOUTS, SAME_AS
from backbone_kit.checkpoint.preprocessing import Preprocessing

from .server import Server, content, status
from .test_download import DATA

CAFFE = find_entry("open-mmlab://detectron2/resnet50_caffe")
FUSED = find_entry("open-mmlab://detectron/resnet50_caffe")
RGB = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.mark.parametrize("scheme", schemes()[:-1])
def test_every_entry_can_be_used(scheme: str) -> None:
    table = entries._table(scheme)
    assert len(table) > 10
    for name, entry in table.items():
        assert find_entry(f"{scheme}://{name}") == entry
        assert entry.url.startswith("https://")
        assert entry.layout in {*LAYOUTS, *SAME_AS, "mmpretrain", None}
        assert entry.style in ("pytorch", "caffe", None)
        assert entry.fused_bn in (True, False, None)
        known = [entry.mean, entry.std, entry.channel_order, entry.range]
        assert all(value is None for value in known) or entry.preprocessing is not None
        assert all(0 < value < 100 for values in entry.metrics.values() for value in values.values())


def test_torchvision_means_the_same_by_its_names() -> None:
    models = pytest.importorskip("torchvision.models")
    for name in models.list_models(models):
        weights = models.get_model_weights(name)
        for weight in weights:
            entry = find_entry(f"torchvision://{name}.{weight.name}")
            transforms = weight.transforms()
            assert (entry.url, entry.range, entry.channel_order) == (weight.url, 1, "RGB")
            assert (list(entry.mean or ()), list(entry.std or ())) == (transforms.mean, transforms.std)
            assert entry.metrics == {
                k: {m: x for m, x in v.items() if x == x} for k, v in weight.meta["_metrics"].items()
            }
        assert find_entry(f"torchvision://{name}.DEFAULT").url == weights.DEFAULT.url
        assert find_entry(f"torchvision://{weights.__name__}.DEFAULT").url == weights.DEFAULT.url


def test_timm_means_the_same_by_its_names() -> None:
    pytest.importorskip("timm")
    from timm.models import get_pretrained_cfg

    table = entries._table("timm")
    for name, entry in table.items():
        cfg = get_pretrained_cfg(name)
        assert cfg is not None
        urls = (entry.url, *entry.mirrors)
        assert (entry.mean, entry.std, entry.source) == (cfg.mean, cfg.std, cfg.origin_url)
        assert entry.licence == (None if cfg.license == "unknown" else cfg.license)
        assert any(f"/{cfg.hf_hub_id}/" in url for url in urls) if cfg.hf_hub_id else cfg.url in urls
        default = get_pretrained_cfg(name.partition(".")[0])
        assert default is not None
        assert find_entry(f"timm://{default.architecture}").name == f"timm://{default.architecture}.{default.tag}"
    live = find_entry("timm://vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert live.name.removeprefix("timm://") not in table
    assert (live.mean, live.layout) == ((0.5, 0.5, 0.5), "timm")


def test_openmmlab_means_the_same_by_its_names() -> None:
    mmengine = pytest.importorskip("mmengine")
    hub = Path(mmengine.__file__).parent / "hub"
    for scheme, file in (("open-mmlab", "openmmlab.json"), ("mmcls", "mmcls.json")):
        known = json.loads((hub / file).read_text())
        for name, entry in entries._table(scheme).items():
            renamed = json.loads((hub / "deprecated.json").read_text()).get(name, name)
            assert entry.url == known[renamed if scheme == "open-mmlab" else name]
    for name, url in json.loads((hub / "torchvision_0.12.json").read_text()).items():
        if name.startswith(("resnet", "resnext", "wide", "regnet", "vgg")):
            assert find_entry(f"torchvision://{name}").url == url


def test_the_original_resnest_means_the_same() -> None:
    package = pytest.importorskip("resnest.torch.resnest")
    for name, url in package.resnest_model_urls.items():
        entry = find_entry(f"resnest://{name}")
        assert url in entry.mirrors
        assert entry.sha256 == package.short_hash(name)


def test_the_caffe_weights_are_told_apart() -> None:
    assert (CAFFE.style, CAFFE.fused_bn, CAFFE.channel_order, CAFFE.std) == ("caffe", False, "BGR", (1.0, 1.0, 1.0))
    assert (FUSED.fused_bn, FUSED.mean) == (True, (102.9801, 115.9465, 122.7717))
    assert CAFFE.mean == (103.53, 116.28, 123.675)
    assert CAFFE.sha256 == "5891d200"


def test_older_names_of_schemes_and_weights_are_known() -> None:
    assert find_entry("openmmlab://resnet50_caffe") == FUSED
    assert find_entry("modelzoo://resnet50") == find_entry("torchvision://resnet50")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvison://resnet50", r"unknown scheme 'torchvison'; did you mean 'torchvision'\?"),
        ("s3://bucket/a.pth", "unknown scheme 's3'; known: .*timm.*hf.*https"),
        ("torchvision://resnet5", r"unknown name 'resnet5'; did you mean 'resnet50"),
        ("open-mmlab://detectron2/resnet50_cafe", r"unknown name .*; did you mean 'detectron2/resnet50_caffe'\?"),
        ("hf://resnet50", "must be hf://org/repo"),
        ("hf://a/../../b", "must be hf://org/repo"),
    ],
)
def test_unknown_names_get_the_nearest(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBONE_KIT_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=f"{source}: {message}"):
        read_checkpoint(source)


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("hf://org/repo", ["/org/repo/resolve/main/model.safetensors", "/org/repo/resolve/main/pytorch_model.bin"]),
        ("hf://org/repo@v2", ["/org/repo/resolve/v2/model.safetensors", "/org/repo/resolve/v2/pytorch_model.bin"]),
        ("hf://org/repo/sub/a.pth", ["/org/repo/resolve/main/sub/a.pth"]),
        ("timm://resnet26d.bt_in1k", ["/timm/resnet26d.bt_in1k/resolve/main/model.safetensors"]),
        ("hf://timm/resnet26d.bt_in1k", ["/timm/resnet26d.bt_in1k/resolve/main/model.safetensors"]),
    ],
)
def test_the_hub_is_asked_for_the_files_it_may_have(
    server: Server,
    source: str,
    paths: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url("/", status(404)))
    server.url(paths[-1], content(DATA))
    for _ in range(2):
        found = read_checkpoint(source)
        assert len(found.tensors) == 1
        assert found.entry is not None
    assert [path for path, _ in server.asked] == paths


def test_mirrors_are_asked_in_turn_and_all_are_named(server: Server) -> None:
    first, second = server.url("/a.bin", status(404)), server.url("/b.bin", status(403), content(DATA))
    entry = WeightEntry("test://a", first, (second,))
    with pytest.raises(CheckpointError, match=r"test://a: cannot be fetched: .*a\.bin: .* 404 .*; .*b\.bin: .* 403"):
        fetch_entry(entry)
    assert fetch_entry(entry).read_bytes() == DATA
    assert fetch_entry(entry) == kept_at(second)
    assert len(server.asked) == 4


def test_the_hash_of_an_entry_is_checked(server: Server) -> None:
    with pytest.raises(CheckpointError, match="not 12345678"):
        fetch_entry(WeightEntry("test://a", server.url("/a.bin", content(DATA)), sha256="12345678"))


def small(**options: Any) -> ResNet:
    return ResNet(50, base_channels=8, stem_channels=8, **options)


@pytest.fixture
def named(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Weights by name, from the server."""
    file = io.BytesIO()
    weights = small().state_dict()
    torch.save(weights, file)
    table = {
        name: replace(entry, url=server.url(f"/{name}.pth", content(file.getvalue())), sha256=None)
        for name, entry in {"caffe": CAFFE, "fused": FUSED, "rgb": find_entry("torchvision://resnet50")}.items()
    }
    monkeypatch.setattr("backbone_kit.checkpoint.io.find_entry", lambda name: table[name.partition("://")[2]])
    return weights


def test_a_backbone_loads_weights_by_name(named: dict[str, Any]) -> None:
    net = build_backbone(
        {"type": "ResNet", "depth": 50, "base_channels": 8, "stem_channels": 8, "style": "caffe"},
        pretrained="test://caffe",
    )
    assert all(torch.equal(value, named[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("source", "net", "message"),
    [
        ("caffe", {}, r"in its first 1x1 there \(style='caffe'\), and here in its 3x3; set style='caffe'"),
        ("caffe", {"output_stride": 8}, "set style='caffe'"),
        (
            "rgb",
            {"style": "caffe"},
            r"in its 3x3 there \(style='pytorch'\), and here in its first 1x1; set style='pytorch'",
        ),
        (
            "fused",
            {"style": "caffe", "norm_eval": False},
            "53 of this model's would compute their own statistics .* norm_eval=True",
        ),
        ("fused", {"style": "caffe", "norm_eval": False, "frozen_stages": 1}, "42 of this model's would"),
    ],
)
def test_weights_that_would_compute_something_else_are_refused(
    named: dict[str, Any], source: str, net: dict[str, Any], message: str
) -> None:
    model = small(**net)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model, f"test://{source}")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_weights_that_fit_are_not(named: dict[str, Any]) -> None:
    load_checkpoint(small(style="caffe", norm_eval=False), "test://caffe")
    load_checkpoint(small(style="caffe", norm_cfg={"type": "BN", "requires_grad": False}), "test://fused")
    load_checkpoint(small(norm_eval=False), "test://rgb")
    for entry in (CAFFE, FUSED):
        check_fit(entry, nn.Conv2d(3, 8, 3))


def test_pictures_are_compared_where_the_user_says_how_they_are(named: dict[str, Any]) -> None:
    net = small(style="caffe")
    message = r"expects pictures in BGR of 255, with mean=\(103\.53, .* and gets RGB .* or .* fold_preprocessing"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(net, "test://caffe", preprocessing=RGB)
    expected = CAFFE.preprocessing
    assert expected is not None
    load_checkpoint(net, "test://caffe", preprocessing=expected)
    load_checkpoint(small(), "test://rgb", preprocessing=RGB)  # the same as 0.485 and so on, of 1
    with pytest.raises(CheckpointError, match="gets BGR"):
        load_checkpoint(small(), "test://rgb", preprocessing=replace(RGB, channel_order="BGR"))
