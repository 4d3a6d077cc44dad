"""For what Hugging Face transformers builds around an AutoBackbone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from ..backbones import build_backbone
from ..config import Config
from ..errors import ConfigError, Path, Problem
from ..names import is_name


def as_transformers(
    cfg: Mapping[str, Any] | str | os.PathLike[str], pretrained: str | None = None, **overrides: Any
) -> BackboneKitConfig:
    """The `backbone_config` of a transformers model: `UperNetConfig(backbone_config=as_transformers('resnet50'))`.

    UperNet, Mask2Former, DETR, Deformable DETR, RT-DETR and others build the backbone from it, with the
    weights that it names. Saved with the model, it comes back with `from_pretrained` once this module is imported.

    Args:
        cfg: What `build_backbone` takes; a file is read now, so that it need not be there later.
        pretrained: A checkpoint in place of what the config names; a model that `from_pretrained` loads needs it not.
        **overrides: Arguments of the backbone in place of the config's, such as `out_indices`.

    Raises:
        ConfigError: No backbone can be built from that, or it cannot be saved with the model, as JSON.
    """
    if not isinstance(cfg, (Mapping, str, os.PathLike)):
        kinds = "a dict, a Config, a config file or a model name"
        raise ConfigError(f"must be {kinds}, as transformers builds it itself, got a {type(cfg).__name__}", ("cfg",))
    if "init" in overrides:
        raise ConfigError(
            "is no argument of the backbone: weights load when the model is built; leave it out", ("init",)
        )
    if isinstance(cfg, Mapping) or not is_name(cfg):
        cfg = (Config(cfg) if isinstance(cfg, Mapping) else Config.fromfile(cfg)).to_dict()
    problems = [*_not_json(cfg), *_not_json({"pretrained": pretrained, **overrides})]
    if problems:
        raise ConfigError(problems)
    return BackboneKitConfig(net=cfg, pretrained=pretrained, overrides=overrides)


def _not_json(value: Any, path: Path = ()) -> Iterator[Problem]:
    """What of a config JSON does not have."""
    if isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_json(item, (*path, key))
    elif not isinstance(value, (str, int, float, NoneType)):
        cure = f"; write the name that it is registered by, {value.__name__!r}" if isinstance(value, type) else ""
        yield Problem(f"is saved with the model, and must be what JSON has, got {value!r}{cure}", path)


class BackboneKitConfig(BackboneConfigMixin, PreTrainedConfig):  # type: ignore[misc]
    """What a backbone is built from; `out_features` are levels by name, the stem among them, from fine to coarse."""

    model_type = "backbone_kit"  # transformers freezes most of what has 'resnet' in this name
    net: str | dict[str, Any] = "resnet50"
    pretrained: str | None = None
    overrides: dict[str, Any] | None = None

    def __post_init__(self, out_features: Any = None, out_indices: Any = None, **kwargs: Any) -> None:
        """Learns the levels from the backbone, on the meta device."""
        with torch.device("meta"):
            net = build_backbone(self.net, **(self.overrides or {}))
        self.stage_names = [level.name for level in net.feature_info]
        self.hidden_sizes = [level.channels for level in net.feature_info]
        if out_features is None and out_indices is None:
            out_indices = sorted(index + 1 for index in net.out_indices)
        self.set_output_features_output_indices(out_features, out_indices)
        super().__post_init__(**{name: value for name, value in kwargs.items() if not hasattr(self, name)})


class BackboneKitBackbone(BackboneMixin, PreTrainedModel):  # type: ignore[misc]
    """A backbone as an AutoBackbone: `net` is the backbone itself."""

    config_class = BackboneKitConfig

    def __init__(self, config: BackboneKitConfig) -> None:
        super().__init__(config)
        self.num_features = config.hidden_sizes
        self.used_levels = config.out_features
        self.on_meta = torch.empty(0).is_meta  # from_pretrained: weights come later
        weights: dict[str, Any] = {} if self.on_meta else dict(init=True, pretrained=config.pretrained)
        self.net = build_backbone(config.net, **weights, **(config.overrides or {}))
        self.to_freeze = [name for name, p in self.net.named_parameters() if self.on_meta and not p.requires_grad]
        self.post_init()

    def train(self, mode: bool = True) -> BackboneKitBackbone:
        """As ever; first of all, what `from_pretrained` made trainable by loading it is frozen again."""
        while self.to_freeze:
            self.net.get_parameter(self.to_freeze.pop()).requires_grad_(False)
        return super().train(mode)  # type: ignore[no-any-return]

    def _init_weights(self, module: nn.Module) -> None:
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        left_out = not all(getattr(tensor, "_is_hf_initialized", False) for tensor in tensors)
        if self.on_meta and left_out and hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]

    def forward(self, pixel_values: Tensor, output_hidden_states: bool | None = None, **_: Any) -> BackboneOutput:
        """`feature_maps` of `out_features`, and with `output_hidden_states` all levels."""
        maps = self.net.forward_intermediates(pixel_values)
        hidden = tuple(maps.values()) if output_hidden_states else None
        return BackboneOutput(feature_maps=tuple(maps[name] for name in self.out_features), hidden_states=hidden)


AutoConfig.register("backbone_kit", BackboneKitConfig)
AutoBackbone.register(BackboneKitConfig, BackboneKitBackbone)
