"""Checkpoints: written whole or not at all, and gone on from exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from backbone_kit import CheckpointError, ConfigError


def save(content: Any, path: Path) -> None:
    """`torch.save`; what was at `path` before stays there until the new file is complete."""
    temporary = path.with_suffix(".writing")
    torch.save(content, temporary)
    os.replace(temporary, path)


def read(path: Path) -> Any:
    """What `save` wrote, on the CPU.

    Raises:
        CheckpointError: The file is damaged.
    """
    with _whole(path):
        return torch.load(path, map_location="cpu", weights_only=True)


def save_run(path: Path, parts: Mapping[str, Any], cfg: Mapping[str, Any], history: list[dict[str, Any]]) -> None:
    """Writes what `restore_run` takes: state dicts of `parts`, random numbers, the config, and what was measured."""
    rng = dict(cpu=torch.get_rng_state(), cuda=torch.cuda.get_rng_state_all())
    states = {name: part.state_dict() for name, part in parts.items()}
    save(dict(parts=states, rng=rng, cfg=dict(cfg), history=history), path)


def restore_run(path: Path, parts: Mapping[str, Any], cfg: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Puts `parts` and the random numbers back to where they were, and returns what was measured.

    Raises:
        ConfigError: There is no such run, or its config was another.
        CheckpointError: The file is damaged.
    """
    if not path.exists():
        raise ConfigError(f"--resume: there is no {path}; leave --resume out to start")
    run = read(path)
    with _whole(path):
        before, now = _flat(run["cfg"]), _flat(cfg)
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            had, has = before.get(key, "nothing"), now.get(key, "nothing")
            raise ConfigError(
                f"is {has!r}, the run in {path.parent} has {had!r}; start anew in another --work-dir", key
            )
    with _whole(path):
        for name, part in parts.items():
            part.load_state_dict(run["parts"][name])
        torch.set_rng_state(run["rng"]["cpu"])
        if len(run["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(run["rng"]["cuda"])
        return run["history"]


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Blames the file for what goes wrong with its content."""
    try:
        yield
    except OSError:  # names the file itself
        raise
    except Exception as error:  # of pickle, zipfile and torch, whose every error means the same here
        raise CheckpointError(
            f"{path}: is damaged, or none of this run's checkpoints; start anew in another --work-dir"
        ) from error


def _flat(value: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    """A config's values by where they are."""
    if isinstance(value, Mapping):
        return {key: leaf for name in value for key, leaf in _flat(value[name], (*path, name)).items()}
    return {path: value}
