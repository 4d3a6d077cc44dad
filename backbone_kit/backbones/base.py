"""`Backbone`: what every family gives its users, written once.

A family builds its layers and says what they are, with `add_stem`, `add_stage` and, where levels are not one a stage,
`add_level`. From that come the forward pass up to the last level that is needed, frozen stages, norms in eval,
initialisation, weights and true metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoint import LoadReport, load_checkpoint
from ..checkpoint.sharded import whole_parameters
from ..errors import ConfigError, located
from ..layers.tracing import is_traced
from ..layers.weight_init import initialize
from ..recompute import Recomputation, Recompute
from ..registry import Registry
from ..signature import check_arguments, parameters
from .first_step import warn_of_initial_statistics, warn_of_unloaded_weights
from .levels import normalized_indices
from .parts import Parts
from .weights import InitCfg, split_init_cfg

BACKBONES = Registry("backbone")


class Backbone(Parts):
    """A stem and stages that turn a picture into maps at several strides.

    A subclass calls this constructor first, then `add_stem` once, then `add_stage` for each of `self.stages_to_build`.
    The names under which it adds layers are their state-dict keys; a dotted name puts a layer into a container, which
    is made where it is not there yet.

    Args:
        num_stages: How many stages the net has.
        num_levels: How many levels it has beside the stem; None: one a stage.
        out_indices: The levels whose maps `forward` returns, in this order; negative ones count from the end. None:
            all.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k: no gradients, norms in eval. To
            thaw a stage later, lower the attribute and set its parameters' `requires_grad`.
        norm_eval: Whether every BatchNorm stays in eval, on its running statistics, through every `train()`.
        prune_stages: Whether what comes after the last level that is needed is left unbuilt.
        recompute: What is made again in backward, for less memory. 'cheap': all but convolutions and linear layers,
            where that is less to keep. `dict(budget_mb=…)`: what is kept fits in so many MiB, and as few
            multiply-accumulates as possible run again. None: nothing.
        pretrained: A checkpoint; short for `init_cfg=dict(type='Pretrained', checkpoint=pretrained)`.
        init_cfg: How `init_weights` fills the weights; None: as the constructor did.

    Attributes:
        feature_info: All levels that were built, the stem first.
        out_channels: Channels of the maps that `forward` returns.
        out_strides: Their strides in input pixels.
        size_divisibility: What H and W must be multiples of; 1: any size.
        load_report: What the last `init_weights` loaded; None before.

    Raises:
        ConfigError: An argument is out of range, or both `pretrained` and `init_cfg`, or `recompute` and `with_cp`, are
            given. In a forward: the budget is too small for the picture.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple of (N, out_channels[i], H / out_strides[i], W / out_strides[i]), rounded as the layers round.
    """

    size_divisibility: int = 1

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Checks the arguments against the signature, as a config's are, also where there is no config."""
        if args or kwargs:  # copies and pickles come without
            names = (name for name, p in parameters(cls).items() if p.kind is p.POSITIONAL_OR_KEYWORD)  # type: ignore[arg-type]
            problems = check_arguments(cls, {**dict(zip(names, args)), **kwargs})
            if problems:
                raise ConfigError(problems)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        num_stages: int,
        num_levels: int | None = None,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
    ) -> None:
        super().__init__()
        if not -1 <= frozen_stages <= num_stages:
            raise ConfigError(
                f"must be from -1 (nothing) over 0 (the stem) to {num_stages} (all stages), got {frozen_stages}",
                ("frozen_stages",),
            )
        self.num_stages = num_stages
        levels = num_stages if num_levels is None else num_levels
        self.out_indices = normalized_indices(out_indices, levels)
        self.levels_to_build = max(self.out_indices) + 1 if prune_stages else levels
        self.stages_to_build = self.levels_to_build if num_levels is None else num_stages
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self._recomputation = None if recompute is None else Recomputation(recompute)
        self.init_cfg, self._weights = split_init_cfg(init_cfg, pretrained)
        self.load_report: LoadReport | None = None
        self._built_on_meta = False
        self._before_first_step = True
        self._initialized = self.init_cfg is None and self._weights is None

    # Initialising

    def _added(self, module: nn.Module, position: int) -> None:
        self._hold(position, module)
        if self._recomputation is not None:
            self._recomputation.add(module)
        self._built_on_meta |= any(parameter.is_meta for parameter in module.parameters())
        self.default_init(module)

    def default_init(self, module: nn.Module) -> None:
        """How new layers start: convolutions Kaiming normal (fan out), norms as PyTorch's.

        A layer that knows better has `init_weights()`, which is called last. A family with another rule overrides this.

        Source: He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, section 2.2 (backward case).
        """
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for layer in module.modules():
            if callable(getattr(layer, "init_weights", None)):
                layer.init_weights()  # type: ignore[operator]

    # Training and freezing

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`; frozen stages and, under `norm_eval`, all BatchNorms stay in eval. Returns self."""
        super().train(mode)
        self.hold()
        return self

    def hold(self) -> None:
        """Freezes the stages that `frozen_stages` names and, under `norm_eval`, puts all BatchNorms in eval."""
        for part in self.parts:
            for name in part.modules + part.out:
                self._hold(part.position, self.get_submodule(name))
        for parameter in self.loose_parameters() if self.frozen_stages >= 0 else ():
            parameter.requires_grad_(False)

    def _hold(self, position: int, module: nn.Module) -> None:
        """Keeps a part (0: the stem) frozen and its norms in eval, where that was asked for."""
        if position <= self.frozen_stages:
            module.requires_grad_(False).eval()
        elif self.norm_eval:
            for layer in module.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    def trained_modules(self) -> list[nn.Module]:
        """The modules of all parts that `frozen_stages` does not reach."""
        parts = [part for part in self.parts if part.position > self.frozen_stages]
        return [self.get_submodule(name) for part in parts for name in part.modules + part.out]

    # Features

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of the levels in `out_indices`, in that order."""
        if self._before_first_step and self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._before_first_step = False
            self._check_first_step()
        if len(self.feature_info) - 1 != self.levels_to_build:
            added = f"{len(self.feature_info) - 1} of {self.levels_to_build}"
            raise RuntimeError(f"{type(self).__name__} added {added} levels")
        maps = self._run_for(self.out_indices, x)
        return tuple(maps[index] for index in self.out_indices)

    @property
    def recompute(self) -> Recompute | None:
        """What is made again in backward, as it was asked for when the net was built."""
        return None if self._recomputation is None else self._recomputation.asked

    def _run_for(self, levels: tuple[int, ...], x: Tensor) -> dict[int, Tensor]:
        if not is_traced(x):
            self.check_pictures(x)
        run = partial(self._maps, levels=levels)
        return run(x) if self._recomputation is None else self._recomputation.run(self, run, x, levels)

    def check_pictures(self, x: Tensor) -> None:
        """Refuses what is no (N, C, H, W) of a floating dtype, with a ValueError or a TypeError."""
        name = type(self).__name__
        if x.dim() != 4:
            raise ValueError(
                f"{name} takes pictures (N, C, H, W), got a tensor of shape {tuple(x.shape)}; a single one is x[None]"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"{name} takes pictures of a floating dtype, got {x.dtype}; normalise them as those were that the "
                "weights come from"
            )

    def _check_first_step(self) -> None:
        if not self._initialized:
            named = "what init_cfg says" if self._weights is None else repr(self._weights.checkpoint)
            warn_of_unloaded_weights(self, named)
        cause = "norm_eval=True" if self.norm_eval else f"frozen_stages={self.frozen_stages}"
        warn_of_initial_statistics(self, cause)

    def forward_intermediates(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of all levels by name: the stem's, before any pooling, and those of the stages."""
        maps = self._run_for(tuple(range(-1, len(self.feature_info) - 1)), x)
        return {info.name: y for info, y in zip(self.feature_info, maps.values())}

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps that `forward` returns."""
        return tuple(self.feature_info[index + 1].channels for index in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Strides of the maps that `forward` returns, in input pixels."""
        return tuple(self.feature_info[index + 1].stride for index in self.out_indices)

    def describe(self) -> list[dict[str, Any]]:
        """The parts in the order in which they run.

        Returns:
            For each: `name`, `modules` (its layers, by name), `channels` and `stride` of its output, `blocks` (0 where
            it is no stage) and `out_index` (its place in the output, or None).
        """
        names = [self.feature_info[index + 1].name for index in self.out_indices]
        return [
            dict(
                name=part.name,
                modules=part.modules + part.out,
                channels=part.channels,
                stride=part.stride,
                blocks=part.blocks,
                out_index=names.index(part.name) if part.name in names else None,
            )
            for part in self.parts
            if part.modules or part.out
        ]

    # Weights

    def init_weights(self) -> None:
        """Fills the weights as `init_cfg` says, by default as the constructor does, and loads those that are named.

        Raises:
            ConfigError: `init_cfg` names a layer that is not there.
            CheckpointError: The named weights cannot be read or do not fit; the net is untouched by them.
        """
        with whole_parameters(self):
            if self._built_on_meta or (self.init_cfg is None and self._weights is None):
                self._start_over()
            if self.init_cfg is not None:
                with located("init_cfg"):
                    initialize(self, self.init_cfg)
        if self._weights is not None:
            named = self._weights
            self.load_report = load_checkpoint(self, named.checkpoint, prefix=named.prefix, adapt_stem=named.adapt_stem)
        self._initialized = True

    def _start_over(self) -> None:
        """Fills the weights as the constructor does."""
        for layer in self.modules():
            if callable(getattr(layer, "reset_parameters", None)):
                layer.reset_parameters()  # type: ignore[operator]
        for child in self.children():
            self.default_init(child)
