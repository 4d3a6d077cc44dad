"""What all adapters share: nothing is imported before it is used, and what is missing says so."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit import ConfigError, adapters, build_backbone
from backbone_kit.optimize import prepare_for_inference

LIBRARIES = ("torchvision", "timm", "transformers", "segmentation_models_pytorch", "mmengine", "detectron2")


def test_nothing_is_imported_before_it_is_used() -> None:
    code = f"import sys; import backbone_kit.adapters; sys.exit(bool(set(sys.modules) & {set(LIBRARIES)}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "library", "cure"),
    [
        ("as_torchvision", "torchvision", r"pip install 'backbone-kit\[torchvision\]'"),
        ("anchors_for", "torchvision", r"pip install 'backbone-kit\[torchvision\]'"),
        ("as_smp", "segmentation_models_pytorch", r"pip install 'backbone-kit\[smp\]'"),
        ("as_timm", "timm", r"pip install 'backbone-kit\[timm\]'"),
        ("as_transformers", "transformers", r"pip install 'backbone-kit\[transformers\]'"),
        ("register_in_mmengine", "mmengine", r"pip install 'backbone-kit\[mmengine\]'"),
        ("as_detectron2", "detectron2", "detectron2 is installed from its sources"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    name: str, library: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(library, adapters._HOMES[name], monkeypatch)
    adapter = getattr(adapters, name)
    with pytest.raises(ModuleNotFoundError, match=f"^{name} needs {library}: {cure}$"):
        adapter(nn.Identity())


def test_names_are_there_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    without("detectron2", "detectron2", monkeypatch)
    names: dict[str, Any] = {}
    exec("from backbone_kit.adapters import *", names)
    assert {*adapters.__all__} <= {*names}
    assert hasattr(adapters, "as_detectron2")
    assert {*adapters.__all__} <= {name for name, _ in inspect.getmembers(adapters)}
    assert "detectron2 is installed from its sources" in inspect.getdoc(adapters.as_detectron2)


def without(library: str, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a library were not installed, and nothing of it had been used."""
    for module in [each for each in sys.modules if each.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"backbone_kit.adapters.{home}", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "timm", "smp", "transformers"])
def test_an_adapter_compiles_and_exports_with_free_sizes(name: str) -> None:
    model = {
        "torchvision": lambda: adapters.as_torchvision(build_backbone("resnet18"), out_channels=16, top="p6p7"),
        "timm": lambda: adapters.as_timm(build_backbone("resnet18")),
        "smp": lambda: smp_encoder(build_backbone("resnet18")),
        "transformers": lambda: transformers_backbone("resnet18"),
    }[name]().eval()
    small, large = torch.rand(1, 3, 160, 192), torch.rand(1, 3, 256, 160)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    sizes = {i: torch.export.Dim(f"size{i}", min=5, max=64) * 32 for i in (2, 3)}
    exported = torch.export.export(model, (small,), dynamic_shapes=(sizes,)).module()
    with torch.no_grad():
        expected = maps(model(large))
        torch.testing.assert_close(maps(compiled(large)), expected)
        torch.testing.assert_close(maps(exported(large)), expected)


def smp_encoder(net: nn.Module) -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet(adapters.as_smp(net), encoder_weights=None).encoder


def transformers_backbone(name: str) -> nn.Module:
    from transformers import AutoBackbone

    return AutoBackbone.from_config(adapters.as_transformers(name))


def maps(out: Any) -> list[torch.Tensor]:
    """The maps of any of them."""
    if hasattr(out, "feature_maps"):
        return list(out.feature_maps)
    return list(out.values()) if isinstance(out, dict) else list(out)


@pytest.mark.parametrize("name", ["as_torchvision", "anchors_for", "as_smp", "as_timm"])
def test_what_is_no_backbone_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^backbone: .* as build_backbone\('resnet18'\) gives it, got a str$"):
        getattr(adapters, name)("resnet18")
    with pytest.raises(
        ConfigError, match=r"^backbone: must be a Backbone, as build_backbone\(\) gives it, got a Conv2d"
    ):
        getattr(adapters, name)(nn.Conv2d(3, 4, 1))


@pytest.mark.parametrize("name", ["as_smp", "as_timm"])
def test_a_prepared_backbone_has_not_all_levels(name: str) -> None:
    prepared = prepare_for_inference(build_backbone("resnet18"), torch.rand(1, 3, 32, 32), compiled=False)
    with pytest.raises(ConfigError, match=r"backbone: must be a Backbone, .* got a PreparedBackbone"):
        getattr(adapters, name)(prepared)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'as_keras'"):
        _ = adapters.as_keras
