"""Versions and devices, for a bug report."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from .table import print_json

PACKAGES = (
    "numpy",
    "pyyaml",
    "addict",
    "rich",
    "torchvision",
    "timm",
    "mmengine",
    "safetensors",
    "onnx",
    "onnxruntime",
    "openvino",
    "pillow",
    "matplotlib",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backbone-kit env`."""
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints one line a fact."""
    facts = {"python": f"{platform.python_version()} ({sys.executable})", "platform": platform.platform(), **_torch()}
    facts.update({name: _version(name) for name in PACKAGES})
    if args.json:
        print_json(facts)
    else:
        width = max(map(len, facts))
        print("\n".join(f"{name.ljust(width)}  {fact}" for name, fact in facts.items()))
    return 0


def _torch() -> dict[str, str]:
    import torch

    from .. import __version__

    cuda = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    return {
        "backbone_kit": __version__,
        "torch": torch.__version__,
        "cuda": f"{torch.version.cuda}" if cuda else "not available",
        "devices": ", ".join(devices) or f"cpu, {torch.get_num_threads()} threads",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
