"""Who may import whom, as docs/design.md draws it; and what starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "backbone_kit"

ALLOWED = {
    "errors": set(),
    "_version": set(),
    "names": {"config", "errors"},
    "__init__": {"_version", "backbones", "checkpoint", "config", "errors", "names", "openmmlab", "registry"},
    "signature": {"errors"},
    "registry": {"errors", "signature"},
    "config": {"errors"},
    "openmmlab": {"errors"},
    "layers": {"errors", "registry", "signature"},
    "checkpoint": {"errors"},
    "recompute": {"errors", "layers"},
    "backbones": {
        *("checkpoint", "config", "errors", "layers", "names", "openmmlab", "recompute", "registry", "signature")
    },
    "heads": {"backbones", "checkpoint", "errors"},
    "finetune": {"backbones", "errors", "layers", "signature"},
    "distributed": {"backbones", "checkpoint", "errors"},
    "analysis": set(),
    "optimize": {"backbones", "errors", "layers"},
    "export": {"backbones", "checkpoint", "errors", "optimize", "signature"},
}
FREE = {"adapters", "cli"}  # may import anything, and nobody imports them

# Inside backbones/, each file may import those above it; every other file is a family, and imports no sister.
LADDER = [
    {"levels", "weights", "first_step", "types", "ranges", "anti_alias"},
    {"parts"},
    {"base", "residual", "convs", "ghost_bottleneck", "convnext_block"},
    {"blocks", "stem"},
    {"stage"},
    {"specs", "branches", "vgg_layers"},
    {"resnet", "custom"},
]
DOORS = {"build": {"base", "custom"}, "__init__": {"base", "blocks", "levels", "build", "resnet"}}


def imports(path: Path) -> set[tuple[str, ...]]:
    """What a file of the package imports from the package, as parts below it: ('layers', 'norm')."""
    here = path.relative_to(PACKAGE).parts[:-1]
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            found |= {module} if node.module else {(*module, alias.name) for alias in node.names}
            continue
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        found |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "backbone_kit"}
    return {module for module in found if module}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_are_entered_as_the_design_says(path: Path) -> None:
    if room(path) in FREE:
        return
    entered = {module[0] for module in imports(path)} - {room(path)}
    assert entered <= ALLOWED[room(path)], f"{path.name} may not import {entered - ALLOWED[room(path)]}"


def test_only_build_backbone_reads_configs() -> None:
    readers = {
        path.stem for path in (PACKAGE / "backbones").glob("*.py") if any(m[0] == "config" for m in imports(path))
    }
    assert readers == {"build"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "backbones").glob("*.py")), ids=lambda path: path.stem)
def test_a_family_never_imports_a_sister(path: Path) -> None:
    within = {module[1] for module in imports(path) if module[0] == "backbones" and len(module) > 1}
    level = next((i for i, files in enumerate(LADDER) if path.stem in files), len(LADDER))
    below = set().union(*LADDER[:level]) if path.stem not in DOORS else DOORS[path.stem]
    assert within <= below, f"{path.stem} may not import {within - below}"


@pytest.mark.parametrize(
    "name", ["Config", "ConfigError", "from_openmmlab", "Registry", "build_from_cfg", "__version__"]
)
def test_it_starts_without_torch(name: str) -> None:
    code = f"import sys; from backbone_kit import {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
