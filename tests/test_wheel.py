"""An installed wheel has all that a checkout has: package, configs, type marker, command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backbone_kit import list_backbones

ROOT = Path(__file__).parent.parent
PARTS = ("backbone_kit", "configs", "setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


@pytest.mark.slow
def test_a_wheel_finds_its_configs(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("backbone_kit-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)

    code = (
        "import backbone_kit, torch; from pathlib import Path;"
        "home = Path(backbone_kit.__file__).parent; print(home, (home / 'py.typed').is_file());"
        "from backbone_kit.checkpoint.entry import find_entry; find_entry('torchvision://resnet50');"
        "print(backbone_kit.build_backbone('resnet18').out_channels, len(backbone_kit.list_backbones()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    names = len(list_backbones())
    assert done.stdout.splitlines() == [f"{site / 'backbone_kit'} True", f"(64, 128, 256, 512) {names}"]
    assert (site / "bin" / "backbone-kit").is_file()
