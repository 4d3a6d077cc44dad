"""build_backbone finds the backbone, in whatever holds or names it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit import BACKBONES, Config, ConfigError, build_backbone, from_openmmlab, list_backbones
from backbone_kit.backbones import ResNet
from backbone_kit.names import named_configs
from backbone_kit.openmmlab import DEFAULTS

R18: dict[str, Any] = {"type": "ResNet", "depth": 18, "base_channels": 8}


@pytest.mark.parametrize(
    "cfg",
    [
        R18,
        {"backbone": R18},
        {"model": {"type": "FasterRCNN", "backbone": R18}},
        {"model": {"type": "DeepSORT", "detector": {"type": "FasterRCNN", "backbone": R18}}},
        Config({"model": {"backbone": R18}}),
    ],
)
def test_it_is_found_at_the_usual_places(cfg: Any) -> None:
    assert build_backbone(cfg).out_channels == (8, 16, 32, 64)


def test_any_other_place_is_named() -> None:
    cfg = {"model": {"backbone": {"type": "ICNet", "backbone_cfg": R18}}}
    with pytest.raises(
        ConfigError, match=r"unknown backbone 'ICNet'.*; a backbone inside: at='model\.backbone\.backbone_cfg'"
    ):
        build_backbone(cfg)
    assert build_backbone(cfg, at="model.backbone.backbone_cfg").out_channels == (8, 16, 32, 64)
    with pytest.raises(ConfigError, match=r"there is no 'backbne'; did you mean 'backbone'\?"):
        build_backbone(cfg, at="model.backbne")


def test_without_a_backbone_it_says_where_it_looked() -> None:
    with pytest.raises(ConfigError, match=r"holds no backbone: looked for 'type', 'backbone', .* it has: train_cfg"):
        build_backbone({"train_cfg": {}})
    with pytest.raises(
        ConfigError, match=re.escape("must be a dict, a Config, a config file or a model name, got 3 (int)")
    ):
        build_backbone(3)  # type: ignore[arg-type]


def test_overrides_replace_arguments() -> None:
    net = build_backbone({"model": {"backbone": R18}}, depth=34, out_indices=[-1])
    assert len(net.layer3) == 6
    assert net.out_channels == (64,)
    given = {**R18, "norm_cfg": {"type": "BN", "eps": 1e-3}}
    for cfg in (given, Config(given)):
        assert build_backbone(cfg, norm_cfg={"type": "GN", "num_groups": 2}).layer1[0].gn1.eps == 1e-5


def test_weights_named_beside_the_backbone_come_along(tmp_path: Path) -> None:
    trained = ResNet(18, base_channels=8)
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    cfg = {"model": {"type": "EncoderDecoder", "pretrained": str(tmp_path / "a.pth"), "backbone": R18}}
    assert not torch.equal(build_backbone(cfg).conv1.weight, trained.conv1.weight)
    assert torch.equal(build_backbone(cfg, init=True).conv1.weight, trained.conv1.weight)


def test_a_whole_models_checkpoint_serves_its_backbone(tmp_path: Path) -> None:
    trained = ResNet(18, base_channels=8)
    detector = {f"backbone.{key}": value for key, value in trained.state_dict().items()} | {"neck.w": torch.zeros(1)}
    torch.save(detector, tmp_path / "detector.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "detector.pth")}
    own = {"type": "Pretrained", "checkpoint": "imagenet.pth"}
    cfg = {"model": {"type": "FasterRCNN", "init_cfg": init_cfg, "backbone": {**R18, "init_cfg": own}}}
    assert torch.equal(build_backbone(cfg, init=True).conv1.weight, trained.conv1.weight)


def test_a_place_may_lead_through_lists() -> None:
    cfg = {"models": [{"type": "Other"}, {"body": R18}]}
    assert build_backbone(cfg, at="models.1.body").out_channels == (8, 16, 32, 64)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"default_scope": ["mmdet"], "backbone": R18}, r"default_scope: must be a string such as 'mmdet'"),
        ({"custom_imports": {"imports": [".x"]}, "backbone": R18}, r"custom_imports: must be dict\(imports="),
        ({"custom_imports": {"import": ["x"]}, "backbone": R18}, r"custom_imports: must be dict\(imports="),
        ({"backbone": {**R18, "out_indices": (i for i in (0, 1))}}, "holds a value that cannot be copied"),
        ({"model": {"pretrained": 5, "backbone": R18}}, r"pretrained: must be a string or None, got 5 \(int\)"),
    ],
)
def test_what_stands_around_a_backbone_is_checked_too(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(cfg)


def test_a_name_is_a_net_to_train_and_a_file_says_what_it_says() -> None:
    with torch.device("meta"):
        named = build_backbone("resnet50")
        from_file = build_backbone(named_configs()["resnet50"])
    assert (named.norm_eval, named.frozen_stages) == (False, -1)
    assert (from_file.norm_eval, from_file.frozen_stages) == (True, 1)


def test_names_are_listed_and_an_unknown_one_suggests_the_nearest() -> None:
    assert {"resnet18", "resnet50_caffe_c4", "resnet101_dcnv2"} <= set(list_backbones())
    assert list_backbones("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    with pytest.raises(ConfigError, match=r"'resnt50' is neither a file nor a model name; did you mean 'resnet50'\?"):
        build_backbone("resnt50")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("mmdet", (True, (0, 1, 2, 3))), ("mmseg", (False, (0, 1, 2, 3))), ("mmpretrain", (False, (3,)))],
)
def test_a_default_scope_decides_whose_defaults_hold(tmp_path: Path, scope: str, expected: tuple[Any, ...]) -> None:
    path = tmp_path / "net.py"
    path.write_text(f"default_scope = '{scope}'\nmodel = dict(backbone=dict(type='ResNet', depth=18))\n")
    net = build_backbone(path)
    assert (net.norm_eval, net.out_indices) == expected


def test_a_scope_in_the_type_goes_before_it() -> None:
    cfg = {"default_scope": "mmdet", "model": {"backbone": {"type": "mmpretrain.ResNet", "depth": 18}}}
    assert build_backbone(cfg).out_indices == (3,)
    assert build_backbone({"type": "mmdet.ResNet", "depth": 18}).norm_eval


def test_every_resnet_has_the_defaults_of_each_package() -> None:
    family = {name for name in BACKBONES if issubclass(BACKBONES.get(name), ResNet)}
    of_mmdet_alone = {"SKResNet", "GhostResNet", "TridentResNet", "DetectoRS_ResNet", "DetectoRS_ResNeXt"}
    assert family - of_mmdet_alone <= set(DEFAULTS["mmpretrain"])
    assert family - of_mmdet_alone - {"RegNet"} <= set(DEFAULTS["mmseg"])


@pytest.mark.parametrize("kind", ["mmdet.ResNeXt", "mmseg.ResNeSt", "mmpretrain.SEResNeXt"])
def test_one_group_is_as_wide_as_the_stage_whatever_its_width_is_said_to_be(kind: str) -> None:
    width = "width_per_group" if kind.startswith("mmpretrain") else "base_width"
    with torch.device("meta"):
        net = build_backbone({"type": kind, "depth": 50, "base_channels": 32, "groups": 1, width: 64})
    assert net.layer1[0].conv1.out_channels == 32  # as all three packages build it


def test_the_classifier_inside_of_mmpretrains_vgg_is_left_aside() -> None:
    net = build_backbone({"type": "mmpretrain.VGG", "depth": 11, "num_classes": 1000})
    assert net.out_channels == (512,)
    assert not [key for key in net.state_dict() if "classifier" in key]
    with pytest.raises(ConfigError, match="num_classes: VGG has no argument 'num_classes'"):
        build_backbone({"type": "VGG", "depth": 11, "num_classes": 1000})


def test_from_openmmlab_leaves_the_given_dict_alone_and_nested_scopes_out() -> None:
    given = {"type": "mmseg.ResNetV1c", "depth": 50, "norm_cfg": {"type": "mmengine.SyncBN", "_scope_": "mmseg"}}
    ours = from_openmmlab(given)
    assert ours["norm_cfg"] == {"type": "SyncBN"}
    assert ours["norm_eval"] is False
    assert given["norm_cfg"] == {"type": "mmengine.SyncBN", "_scope_": "mmseg"}
    with pytest.raises(ConfigError, match=r"got 'mmse'; did you mean 'mmseg'\?"):
        from_openmmlab(given, source="mmse")


TOY = """
from torch import nn
from backbone_kit import BACKBONES
from backbone_kit.backbones import Backbone

@BACKBONES.register_module()
class {name}(Backbone):
    def __init__(self, width: int = 8, **kwargs):
        super().__init__(num_stages=2, **kwargs)
        self.add_stem({{"stem": nn.Conv2d(3, width, 3, stride=2, padding=1)}}, channels=width, stride=2)
        for i in range(self.stages_to_build):
            conv = nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 3, stride=2, padding=1)
            self.add_stage(f"stage{{i}}", conv, channels=width * 2 ** (i + 1), stride=2 ** (i + 2))
"""


@pytest.fixture
def registered_for_a_while() -> Iterator[None]:
    before = dict(BACKBONES._entries)
    yield
    BACKBONES._entries.clear()
    BACKBONES._entries.update(before)


@pytest.mark.usefixtures("registered_for_a_while")
def test_a_backbone_of_ones_own_is_one_file_and_one_config(tmp_path: Path) -> None:
    (tmp_path / "toy_backbone_a.py").write_text(TOY.format(name="ToyA"))
    (tmp_path / "toy.yaml").write_text(
        "custom_imports: {imports: [toy_backbone_a]}\nbackbone: {type: ToyA, width: 4, out_indices: [1]}\n"
    )
    path_before = list(sys.path)
    net = build_backbone(tmp_path / "toy.yaml")
    assert sys.path == path_before
    assert (net.out_channels, net.out_strides) == ((16,), (8,))
    assert net(torch.rand(1, 3, 32, 32))[0].shape == (1, 16, 4, 4)
    with pytest.raises(ConfigError, match=r"ToyA has no argument 'widht'; did you mean 'width'\?"):
        build_backbone(tmp_path / "toy.yaml", widht=3)


@pytest.mark.usefixtures("registered_for_a_while")
def test_import_paths_build_only_from_listed_modules(tmp_path: Path) -> None:
    (tmp_path / "toy_backbone_b.py").write_text(TOY.format(name="ToyB"))
    text = "custom_imports: {imports: [toy_backbone_b]}\nbackbone: {type: toy_backbone_b.ToyB}\n"
    (tmp_path / "listed.yaml").write_text(text)
    (tmp_path / "unlisted.yaml").write_text(text.splitlines()[1])
    assert type(build_backbone(tmp_path / "listed.yaml")).__name__ == "ToyB"
    with pytest.raises(ConfigError, match=r"an import path needs custom_imports=dict\(imports=\['toy_backbone_b'\]\)"):
        build_backbone(tmp_path / "unlisted.yaml")


def test_a_custom_import_that_fails_says_what_to_do() -> None:
    cfg = {"custom_imports": {"imports": ["no_such_module"]}, "backbone": R18}
    with pytest.raises(ConfigError, match=r"custom_imports\.imports: cannot import 'no_such_module' .* PYTHONPATH"):
        build_backbone(cfg)
    cfg["custom_imports"]["allow_failed_imports"] = True
    assert isinstance(build_backbone(cfg), ResNet)


def test_openmmlabs_own_packages_need_not_be_there() -> None:
    imports = {"imports": ["mmpretrain.models"], "allow_failed_imports": False}
    cfg = {"custom_imports": imports, "model": {"backbone": {"type": "mmpretrain.ResNet", "depth": 18}}}
    assert build_backbone(cfg).out_indices == (3,)


def test_only_backbones_are_built() -> None:
    with pytest.raises(ConfigError, match="Conv2d is not a Backbone"):
        build_backbone({"type": nn.Conv2d, "in_channels": 3, "out_channels": 4, "kernel_size": 3})
