"""Any net of timm under this library's contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, did_you_mean
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .weights import InitCfg

Layers = dict[str, nn.Module]


@BACKBONES.register_module()
class TimmBackbone(Backbone):
    """A net of timm as a backbone; needs timm, which the extra 'timm' installs.

    The level 'stem' is timm's map of a stride below 4 where there is one, so that out index 0 has stride 4 as
    elsewhere; otherwise it is the picture. Most nets run part by part under timm's own keys. Those that timm taps in
    another way, vision transformers among them, run as a whole whatever `out_indices` needs, and their keys begin with
    'whole.'.

    Args:
        model_name: timm's name of it.
        in_channels: Channels of the picture.
        out_indices: Levels whose maps are returned, in this order; None: all but the stem.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.
        model_args: Further arguments of `timm.create_model`, such as `{'drop_path_rate': 0.1}`.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        timm_indices: In place of `out_indices`, the levels by timm's count, in which a map of a stride below 4 has an
            index too.

    Raises:
        ConfigError: timm is not installed, has no such net, or refuses an argument; both kinds of indices are given, or
            one of timm's is the stem's map.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple of (N, C, H / stride, W / stride), also of nets that work on (N, H, W, C) inside.
    """

    def __init__(
        self,
        model_name: str,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
        model_args: Mapping[str, Any] | None = None,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        timm_indices: Sequence[int] | None = None,
    ) -> None:
        net = _create(model_name, in_channels, model_args or {})
        info = net.feature_info
        levels = list(zip(info.channels(), info.reduction(), info.module_name()))
        self._early = early = sum(stride < 4 for _, stride, _ in levels)
        if timm_indices is not None:
            if out_indices is not None:
                raise ConfigError(
                    "counts otherwise than `out_indices`, which is given too; keep one", ("timm_indices",)
                )
            out_indices = _by_our_count(timm_indices, [stride for _, stride, _ in levels], early)
        super().__init__(
            num_stages=len(levels) - early,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        self.aliases: dict[str, str] = {}
        if type(net).__name__ == "FeatureListNet":
            self.whole: nn.Module | None = None
            before, segments = _taken_apart(net, model_name, early)
        else:
            self.whole = net
            self.aliases = _timms_keys(net, model_name)
            before, segments = _by_taps(net, [name for _, _, name in levels], early)
        channels, stride = levels[early - 1][:2] if early else (in_channels, 1)
        self.add_stem(before if early else {}, channels=channels, stride=stride)
        if before and not early:
            self.add_pool(before, stride=levels[0][1])
        for index, layers in enumerate(segments[: self.stages_to_build]):
            channels, stride, _ = levels[early + index]
            out = {} if self.whole is not None else {f"to_map{index}": ToMap(net)}
            blocks = None if layers else 0
            self.add_stage(f"stage{index + 1}", layers, channels=channels, stride=stride, out=out, blocks=blocks)
        self.hold()
        if frozen_stages >= 0 and not all(segments):
            raise ConfigError(f"timm does not say which layers of {model_name} are which stage", ("frozen_stages",))
        self._again = partial(
            type(self), model_name, in_channels, out_indices, prune_stages=prune_stages, model_args=model_args
        )

    def default_init(self, module: nn.Module) -> None:
        """As timm left it."""

    def _start_over(self) -> None:
        with torch.device("cpu"):
            made = self._again()
        with torch.no_grad():
            for own, start in ((self.parameters(), made.parameters()), (self.buffers(), made.buffers())):
                for tensor, value in zip(own, start):
                    tensor.copy_(value)

    def _add(self, position: int, name: str, module: nn.Module) -> None:
        if self.whole is None:
            super()._add(position, name, module)
        else:
            self._hold(position, module)

    def _maps(self, x: Tensor, levels: Collection[int]) -> dict[int, Tensor]:
        if self.whole is None:
            return super()._maps(x, levels)
        maps = self.whole(x)
        stem = maps[self._early - 1] if self._early else x
        return {level: maps[self._early + level] if level >= 0 else stem for level in levels}


class ToMap(nn.Module):
    """What a layer of timm gives, several maps or channels last, as a map (N, C, H, W).

    Args:
        net: The net that it is of.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.concat = bool(net.concat)
        self.channels_last = str(net.output_fmt).endswith("NHWC")

    def forward(self, x: Any) -> Tensor:
        """The map."""
        if isinstance(x, (tuple, list)):
            x = torch.cat(x, 1) if self.concat else x[0]
        y: Tensor = x.permute(0, 3, 1, 2) if self.channels_last else x
        return y


def _create(model_name: str, in_channels: int, model_args: Mapping[str, Any]) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("needs timm; install the extra: pip install 'backbone_kit[timm]'", ("model_name",)) from error
    if not timm.is_model(model_name):
        raise ConfigError(
            f"timm {timm.__version__} has no {model_name!r}{did_you_mean(model_name, timm.list_models())}",
            ("model_name",),
        )
    try:
        return timm.create_model(model_name, features_only=True, in_chans=in_channels, **model_args)
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"timm's {model_name} refuses them: {error}", ("model_args",)) from error


def _by_our_count(timm_indices: Sequence[int], strides: Sequence[int], early: int) -> list[int]:
    """Indices of timm's levels as ours, which begin behind the `early` ones."""
    for index in timm_indices:
        if not -len(strides) <= index < len(strides):
            raise ConfigError(f"{index} is out of range: timm has 0 to {len(strides) - 1}", ("timm_indices",))
        if index % len(strides) < early:
            which = f"{index} is the stem's map, of stride {strides[index]}"
            raise ConfigError(f"{which}: `forward_intermediates` gives it, `forward` does not", ("timm_indices",))
    return [index % len(strides) - early for index in timm_indices]


def _taken_apart(net: Any, model_name: str, early: int) -> tuple[Layers, list[Layers]]:
    """The layers of a sequence, before the first stage and of each stage, by their names in timm's whole net."""
    import timm

    with torch.device("meta"):
        names = {name.replace(".", "_"): name for name, _ in timm.create_model(model_name).named_modules()}
    segments: list[Layers] = [{}]
    for name, module in net.items():
        segments[-1][names.get(name, name)] = module
        if name in net.return_layers:
            segments.append({})
    stages = segments[early:-1]
    before = {name: module for segment in segments[:early] for name, module in segment.items()}
    if not early:  # what runs before the tapped module of the first stage
        *first, last = stages[0]
        before, stages[0] = {name: stages[0][name] for name in first}, {last: stages[0][last]}
    return before, stages


def _timms_keys(net: nn.Module, model_name: str) -> dict[str, str]:
    """Keys of a net that stays whole, as ours, and as timm's without `features_only`."""
    import timm

    with torch.device("meta"):
        keys = {key.replace(".", "_"): key for key in timm.create_model(model_name).state_dict()}
    inside = ((key, key.removeprefix("model.").removeprefix("body.")) for key in net.state_dict())
    return {f"whole.{key}": keys.get(name.replace(".", "_"), name) for key, name in inside}


def _by_taps(net: nn.Module, taps: list[str], early: int) -> tuple[Layers, list[Layers]]:
    """The same for a net that stays whole: its modules in the order in which they are registered."""
    paths = {name: path for path, _ in net.named_modules() for name in taps if path in (name, *_inside(name))}
    segments: list[Layers] = [{}]

    def walk(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            inner = f"{path}{name}"
            if any(tap.startswith(f"{inner}.") for tap in paths.values()):
                walk(child, f"{inner}.")
            else:
                segments[-1][f"whole.{inner}"] = child
            if inner in paths.values():
                segments.append({})

    walk(net, "")
    segments += [{} for _ in range(len(taps) + 1 - len(segments))]
    before = {name: module for segment in segments[:early] for name, module in segment.items()}
    return before, segments[early : len(taps)]


def _inside(name: str) -> tuple[str, str]:
    return f"model.{name}", f"body.{name}"
