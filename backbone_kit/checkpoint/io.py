"""A source of weights as a state dict. Nothing in a file is ever executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .contents import Checkpoint, find_checkpoint
from .download import fetch
from .entry import fetch_entry, find_entry
from .safetensors_file import read_safetensors
from .sniff import first_bytes
from .torch_file import read_pickle, read_zip


def read_checkpoint(source: str | os.PathLike[str] | Mapping[str, Any], *, ema: bool = False) -> Checkpoint:
    """The weights of a source.

    Args:
        source: A path, a URL, a name such as 'torchvision://resnet50' or 'hf://org/repo', or a state dict. A file is
            told by its first bytes: `torch.save` in both of its formats, safetensors, or a pickle of detectron2 or
            Caffe2.
        ema: Whether to take the weights that are averaged over training.

    Raises:
        CheckpointError: There is no such file, it is no checkpoint or a damaged one, or it holds no state dict.
    """
    if isinstance(source, Mapping):
        return find_checkpoint(source, "the state dict", ema=ema)
    name = str(source)
    if "://" not in name:
        return _read(Path(source).expanduser(), name, ema)
    entry = None if name.startswith(("http://", "https://")) else find_entry(name)
    path = fetch(name) if entry is None else fetch_entry(entry)
    try:
        return replace(_read(path, name, ema), entry=entry)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. It was kept at {path}; delete it to fetch it again") from error


def _read(path: Path, name: str, ema: bool) -> Checkpoint:
    start = first_bytes(path, name)
    inert: tuple[str, ...] = ()
    try:
        with torch.device("cpu"):  # a model may be built on another, such as meta, while this is read
            if start.startswith(b"PK\3\4"):
                content, inert = read_zip(path)
            elif start[8:9] == b"{" or path.suffix == ".safetensors":
                content = read_safetensors(path)
            else:
                content, inert = read_pickle(path)
    except Exception as error:  # of zipfile, torch and json, whose every error means the same here
        raise CheckpointError(f"{name}: is no checkpoint that can be read: {error}") from error
    return find_checkpoint(content, name, ema=ema, inert=inert)
