"""`build_backbone`: from whatever names or holds a backbone to the backbone."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from ..config import Config
from ..errors import ConfigError, did_you_mean, dotted
from ..names import NAMED, is_name, named_config
from ..openmmlab import SCOPES, from_openmmlab
from .base import BACKBONES, Backbone
from .custom import import_custom, resolve_types

PLACES = ((), ("backbone",), ("model", "backbone"), ("model", "detector", "backbone"), ("detector", "backbone"))
Keys = tuple[str | int, ...]


def build_backbone(
    cfg: Mapping[str, Any] | str | os.PathLike[str],
    *,
    at: str | None = None,
    init: bool = False,
    pretrained: str | None = None,
    **overrides: Any,
) -> Backbone:
    """A backbone from a config, a config file or a model name.

    Args:
        cfg: A dict or Config with `type`, or one that holds `backbone`, `model.backbone` or `model.detector.backbone`;
            a path to a `.yaml`, `.json` or `.py` config file; or a model name of `list_backbones()`. Never modified.
            Weights that are named beside the backbone (`model.pretrained`) come along; what `custom_imports` lists is
            imported; a file's `default_scope` decides whose defaults hold.
        at: Where the backbone is, in any other place: 'model.backbone.backbone_cfg'.
        init: Whether `init_weights()` is called, which fills and loads weights.
        pretrained: A checkpoint in place of what the config names; it is loaded.
        **overrides: Arguments of the backbone in place of the config's.

    Raises:
        ConfigError: The config cannot be read, holds no backbone, or not one that can be built.
        CheckpointError: The weights cannot be loaded.

    Examples:
        >>> build_backbone(dict(type='ResNet', depth=50), out_indices=(2, 3)).out_channels
        (1024, 2048)
    """
    whole, named = _read(cfg)
    if not isinstance(at, (str, type(None))):
        raise ConfigError(f"at must be a dotted place such as 'model.backbone', got {at!r} ({type(at).__name__})")
    path = _find(whole) if at is None else tuple(int(part) if part.isdecimal() else part for part in at.split("."))
    node = _walk(whole, path)
    backbone = _prepared(node, whole, path)
    resolve_types(backbone, import_custom(whole))
    for key, value in {**(NAMED if named else {}), **overrides}.items():
        backbone[key] = value  # in place of what is there: a Config's update would merge dicts
    if pretrained is not None:
        backbone.pop("init_cfg", None)
        backbone["pretrained"] = pretrained
    loads = pretrained is not None or (init and _names_only_weights(backbone))
    spared = loads and _can_be_spared(backbone.get("type"))
    try:
        with torch.device("meta") if spared else nullcontext():
            net = BACKBONES.construct(backbone)
    except ConfigError as error:
        raise _with_nested_hint(error.within(*path), node, path) from error.__cause__
    if not isinstance(net, Backbone):
        raise ConfigError(
            f"{type(net).__name__} is not a Backbone; derive it from backbone_kit.backbones.Backbone", path
        )
    if init or pretrained is not None:
        net.init_weights()
    if spared:
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.data = tensor.data.clone()  # not the file's memory: that file may be written over
    return net


def _names_only_weights(backbone: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is all that fills the net."""
    entry = backbone.get("init_cfg")
    return backbone.get("pretrained") is not None or (isinstance(entry, Mapping) and entry.get("type") == "Pretrained")


def _can_be_spared(kind: Any) -> bool:
    """Whether a net may be built without memory, as a checkpoint brings all values: no other tensors are in it."""
    module = getattr(BACKBONES.get(kind) if isinstance(kind, str) else kind, "__module__", "")
    own = module.startswith("backbone_kit.") and not module.endswith(".timm_backbone")
    return own and torch.get_default_device().type == "cpu"


def _read(cfg: Any) -> tuple[Mapping[str, Any], bool]:
    """The whole config, and whether it was given as a model name."""
    if isinstance(cfg, Mapping):
        return cfg, False
    if not isinstance(cfg, (str, os.PathLike)):
        raise ConfigError(
            f"must be a dict, a Config, a config file or a model name, got {cfg!r} ({type(cfg).__name__})"
        )
    named = is_name(cfg)
    return named_config(str(cfg)) if named else Config.fromfile(cfg), named


def _find(cfg: Mapping[str, Any]) -> Keys:
    """Where the backbone is: the innermost of the usual places."""
    found = [place for place in PLACES if isinstance(_get(cfg, place), Mapping)]
    if found[-1] or "type" in cfg:
        return found[-1]
    nested = [dotted(path) for path in _nested(cfg)]
    cure = f"pass at={nested[0]!r}" if nested else "pass at='...' with its place"
    raise ConfigError(
        f"holds no backbone: looked for 'type', {', '.join(repr('.'.join(p)) for p in PLACES[1:4])}; "
        f"it has: {', '.join(map(str, cfg)) or 'nothing'}; {cure}"
    )


def _get(cfg: Any, path: Keys) -> Any:
    for key in path:
        if not isinstance(cfg, Mapping) or key not in cfg:
            return None
        cfg = cfg[key]
    return cfg


def _walk(cfg: Mapping[str, Any], path: Keys) -> Mapping[str, Any]:
    node: Any = cfg
    for depth, key in enumerate(path):
        items = dict(enumerate(node)) if isinstance(node, (list, tuple)) else node if isinstance(node, Mapping) else {}
        if key not in items:
            keys = [str(each) for each in items]
            hint = did_you_mean(key, keys) or f"; there are: {', '.join(keys) or 'no keys'}"
            raise ConfigError(f"at={dotted(path)!r}: there is no {key!r}{hint}", path[:depth])
        node = items[key]
    if not isinstance(node, Mapping):
        raise ConfigError(f"must be a dict with 'type', got {node!r}", path)
    return node


def _prepared(node: Mapping[str, Any], whole: Mapping[str, Any], path: Keys) -> dict[str, Any]:
    """A copy of the backbone's dict that our registry can build."""
    kind, scope = node.get("type"), whole.get("default_scope")
    if not isinstance(scope, (str, type(None))):
        raise ConfigError(f"must be a string such as 'mmdet', got {scope!r}", ("default_scope",))
    if scope in SCOPES or (isinstance(kind, str) and kind.split(".")[0] in SCOPES):
        backbone = from_openmmlab(node, source=scope if scope in SCOPES else "mmdet")
    else:
        backbone = _copied(node)
    if not path:  # a file that is the backbone's dict may carry these beside the arguments
        for key in ("default_scope", "custom_imports"):
            backbone.pop(key, None)
    beside = _get(whole, path[:-1]) if path else None
    if isinstance(beside, Mapping):
        _take_weights_along(backbone, beside)
    return backbone


def _copied(node: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return copy.deepcopy(node) if isinstance(node, dict) else dict(node)
    except Exception as error:
        raise ConfigError(f"holds a value that cannot be copied ({error}); a config is made of plain data") from error


def _take_weights_along(backbone: dict[str, Any], model: Mapping[str, Any]) -> None:
    """Weights that are named for the model around the backbone: its own `pretrained`, or a whole detector's checkpoint.

    The latter replaces what the backbone names, as it is loaded after it where that model is built.
    """
    init_cfg, weights = model.get("init_cfg"), model.get("pretrained")
    if isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained" and "checkpoint" in init_cfg:
        backbone.pop("pretrained", None)
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": init_cfg["checkpoint"], "prefix": "backbone"}
    elif weights is not None and not backbone.get("pretrained") and not backbone.get("init_cfg"):
        backbone["pretrained"] = weights


def _nested(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of `backbone_cfg` and `backbone` dicts further in."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("backbone", "backbone_cfg") and isinstance(value, Mapping):
                yield (*path, key)
            yield from _nested(value, (*path, key))


def _with_nested_hint(error: ConfigError, node: Mapping[str, Any], path: Keys) -> ConfigError:
    """The error, with the place of a backbone inside of what is none: ICNet's and BiSeNet's `backbone_cfg`."""
    nested = [dotted((*path, *inner)) for inner in _nested(node)]
    if not nested or node.get("type") in BACKBONES:
        return error
    *others, last = error.problems
    return ConfigError([*others, replace(last, message=f"{last.message}; a backbone inside: at={nested[0]!r}")])
