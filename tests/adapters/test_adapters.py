"""What all adapters share: nothing is imported before it is used, and what is missing says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backbone_kit import adapters

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
    for module in [each for each in sys.modules if each.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"backbone_kit.adapters.{adapters._HOMES[name]}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=f"{name} needs {library}: {cure}"):
        getattr(adapters, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'as_keras'"):
        _ = adapters.as_keras
