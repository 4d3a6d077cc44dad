"""A run's config, which is checked whole before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from ranges import check_ranges
from shapes_data import ShapesConfig
from torch import nn

from backbone_kit import Config, ConfigError, Registry, build_backbone, build_from_cfg
from backbone_kit.analysis import input_channels
from backbone_kit.config import ConfigDict
from backbone_kit.errors import Problem, did_you_mean, located

T = TypeVar("T")


class ModelConfig(Protocol):
    """What stands on the backbone, as a config describes it."""

    def build(self, cfg: Mapping[str, Any], size: int) -> nn.Module:
        """The whole model, for square pictures of `size` pixels; `cfg` has the backbone's config as `backbone`."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: by AdamW, with a learning rate that rises, then falls along half a cosine.

    Args:
        steps: Batches in all.
        batch_size: Pictures a batch.
        lr: Learning rate at its highest.
        weight_decay: Of weights that are no norm's and no bias.
        layer_decay: How much slower each block of the backbone learns than the next; 1: not at all.
        warmup: Steps over which the learning rate rises.
        max_norm: Longer gradients are scaled down to this length.
        val_every: Steps between two measurements, each of which writes a checkpoint.
        workers: Processes that draw pictures; 0: the one that trains.
        seed: Another seed, another run.
    """

    steps: int
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    warmup: int = 50
    max_norm: float = 10.0
    val_every: int = 200
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            steps=(self.steps >= 1, "1 or more"),
            batch_size=(self.batch_size >= 2, "2 or more"),  # one picture has no statistics
            lr=(0 < self.lr < math.inf, "over 0 and finite"),
            weight_decay=(0 <= self.weight_decay < math.inf, "0 or more and finite"),
            layer_decay=(0 < self.layer_decay <= 1, "over 0 and up to 1"),
            warmup=(self.warmup >= 0, "0 or more"),
            max_norm=(self.max_norm > 0, "over 0"),
            val_every=(self.val_every >= 1, "1 or more"),
            workers=(self.workers >= 0, "0 or more"),
            seed=(0 <= self.seed < 2**64, "from 0 to 2**64 - 1"),
        )


@dataclass(frozen=True)
class Settings:
    """A config that has been checked.

    Attributes:
        cfg: The config itself.
        model: Its `detector` or `head`.
        data, training: Its sections of these names.
    """

    cfg: Config
    model: ModelConfig
    data: ShapesConfig
    training: TrainingConfig


def read_settings(path: str, options: Mapping[str, Any], part: str, registry: Registry) -> Settings:
    """The config of a file.

    Args:
        path: A file with `backbone`, `training`, perhaps `data`, and `part`.
        options: Dotted keys, and values in place of the file's.
        part: 'detector' or 'head'.
        registry: The classes that `part` may name.

    Raises:
        ConfigError: All that is wrong with it, with file and line.
    """
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options, source="--cfg-options")
    known = ("backbone", part, "data", "training")
    unknown = [key for key in cfg if key not in known]
    hints = {key: did_you_mean(key, known) or f"; allowed: {', '.join(known)}" for key in unknown}
    problems = [Problem(f"is no part of a run{hints[key]}", (key,), cfg.source_of(key)) for key in unknown]
    problems += [Problem(f"{key!r} is missing", (), path) for key in known if key not in cfg and key != "data"]

    def section(key: str, build: Callable[[Any], T]) -> T | None:
        try:
            with located(key):
                if not isinstance(value := cfg.get(key, {}), Mapping):
                    raise ConfigError(f"must be a dict, got {value!r}", (), cfg.source_of(key))
                return build(value) if key in cfg or key == "data" else None
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    def of(kind: type[T]) -> Callable[[Any], T]:
        return partial(build_from_cfg, registry=Registry("section"), default_args=dict(type=kind))

    section("backbone", _check_backbone)
    model, data, training = (
        section(part, registry.build),
        section("data", of(ShapesConfig)),
        section("training", of(TrainingConfig)),
    )
    if problems:
        raise ConfigError(problems)
    return Settings(cfg, model, data, training)


def _check_backbone(cfg: ConfigDict) -> None:
    with torch.device("meta"):
        channels = input_channels(build_backbone(cfg))
    if channels != 3:
        reason = f"must be 3, as the pictures have colours, got {channels}"
        raise ConfigError(reason, ("in_channels",), cfg.source_of("in_channels"))
