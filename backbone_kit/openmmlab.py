"""OpenMMLab's backbone dicts as ours: no scope prefixes, and the defaults of their package written out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .errors import ConfigError, did_you_mean

SCOPES = {
    "mmdet": "mmdet",
    "mmseg": "mmseg",
    "mmpretrain": "mmpretrain",
    "mmcls": "mmpretrain",
    "mmengine": "mmdet",
    "mmcv": "mmdet",
}
"""Scope prefixes and the package whose defaults they mean."""

_RESNETS = (
    "ResNet",
    "ResNetV1c",
    "ResNetV1d",
    "ResNeXt",
    "Res2Net",
    "ResNet_CIFAR",
    "ResNeSt",
    "SEResNet",
    "SEResNeXt",
)

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "mmdet": {},
    "mmseg": {
        **{name: {"norm_eval": False, "stem_channels": 64} for name in _RESNETS},
        "HRNet": {"norm_eval": False, "upsample_mode": "bilinear"},
    },
    "mmpretrain": {
        **{name: {"norm_eval": False, "stem_channels": 64, "out_indices": (3,)} for name in _RESNETS},
        "HRNet": {"norm_eval": False},
        "VGG": {"out_indices": (-1,)},
        "RegNet": {"norm_eval": False, "out_indices": (3,)},
    },
}
"""By package and type: what an argument that is not given means there, where that is not what it means here."""

DEFAULTS["mmpretrain"]["ResNeXt"] |= {"groups": 32, "base_width": 4}
DEFAULTS["mmpretrain"]["Res2Net"] |= {"pool_unstrided": True}

RENAMED: dict[str, dict[str, dict[str, str]]] = {
    "mmdet": {},
    "mmseg": {},
    "mmpretrain": {name: {"width_per_group": "base_width"} for name in ("ResNeXt", "SEResNeXt", "ResNeSt")},
}
"""By package and type: what an argument is called there, and here."""

CLASSIFIERS: dict[str, dict[str, str]] = {"mmdet": {}, "mmseg": {}, "mmpretrain": {"VGG": "num_classes"}}
"""By package and type: what puts a classifier into the backbone, which is left aside like those of checkpoints."""

GROUPED = ("ResNeXt", "ResNeSt", "SEResNeXt", "DetectoRS_ResNeXt")
"""Types whose `base_width` is not looked at there where `groups` is 1: one group is as wide as the stage."""

UNFROZEN_AT_ZERO = ("ConvNeXt",)
"""Types whose `frozen_stages=0` freezes nothing there; here 0 is the stem, and nothing is -1."""


def from_openmmlab(cfg: Mapping[str, Any], source: str = "mmdet") -> dict[str, Any]:
    """A backbone dict of mmdet, mmseg or mmpretrain as one that builds the same net here.

    Args:
        cfg: Their dict. Not modified. A scope in its `type` ('mmpretrain.ResNet') goes before `source`.
        source: The package that it is written for: 'mmdet', 'mmseg' or 'mmpretrain'.

    Raises:
        ConfigError: `source` is none of these, or a `TIMMBackbone` gives no maps of several strides.

    Examples:
        >>> from_openmmlab(dict(type='mmseg.ResNetV1c', depth=50))
        {'type': 'ResNetV1c', 'depth': 50, 'norm_eval': False, 'stem_channels': 64}
    """
    if source not in SCOPES:
        raise ConfigError(
            f"source must be 'mmdet', 'mmseg' or 'mmpretrain', got {source!r}{did_you_mean(source, SCOPES)}"
        )
    scope, kind = _split(cfg.get("type"))
    try:
        result: dict[str, Any] = _unscoped(copy.deepcopy(cfg))
    except TypeError as error:
        raise ConfigError(f"holds a value that cannot be copied ({error}); a config is made of plain data") from error
    package = SCOPES[scope or source]
    if kind == "TIMMBackbone":
        return _timm_backbone(result, package)
    for theirs, ours in RENAMED[package].get(kind, {}).items():
        if theirs in result:
            result[ours] = result.pop(theirs)
    if package == "mmpretrain" and "expansion" in result:
        _expand(result)
    for key, value in DEFAULTS[package].get(kind, {}).items():
        result.setdefault(key, value)
    result.pop(CLASSIFIERS[package].get(kind, ""), None)
    if kind in GROUPED and result.get("groups", 1) == 1:
        result.pop("base_width", None)
    if kind in UNFROZEN_AT_ZERO and result.get("frozen_stages") == 0:
        result["frozen_stages"] = -1
    return result


def _timm_backbone(cfg: dict[str, Any], package: str) -> dict[str, Any]:
    """Their wrapper of timm's nets, which passes on what it does not know, as ours."""
    if not cfg.pop("features_only", package == "mmseg"):
        raise ConfigError("must be True: without it, timm gives no maps of several strides", ("features_only",))
    if "out_indices" not in cfg:
        raise ConfigError(
            "'out_indices' is missing: timm would return a map of stride 2 as well, where it has one; say which maps "
            "are needed, by timm's count, such as out_indices=(1, 2, 3, 4)"
        )
    name, path = cfg.get("model_name"), cfg.pop("checkpoint_path", "")
    if cfg.pop("pretrained", package == "mmseg") or path:
        cfg["pretrained"] = path or f"timm://{name}"
    ours = ("type", "model_name", "in_channels", "pretrained", "init_cfg")
    result = {key: cfg.pop(key) for key in ours if key in cfg}
    result |= {"type": "TimmBackbone", "timm_indices": sorted(cfg.pop("out_indices"))}
    return result | ({"model_args": cfg} if cfg else {})


def _expand(cfg: dict[str, Any]) -> None:
    """Says mmpretrain's `expansion`, output channels over the 3x3's, as the width of the 3x3; changes `cfg`."""
    expansion, width = cfg.pop("expansion"), cfg.pop("base_channels", 64)
    if expansion is None:
        cfg["base_channels"] = width
        return
    usual = 1 if cfg.get("depth") in (18, 34) else 4
    if width * expansion % usual or (usual == 1 and expansion != 1):
        raise ConfigError(
            f"cannot be {expansion} with base_channels={width} and depth={cfg.get('depth')}", ("expansion",)
        )
    cfg.setdefault("stem_channels", 64)
    cfg |= (
        {"base_channels": width * expansion // usual, "base_width": width}
        if expansion != usual
        else {"base_channels": width}
    )


def _split(kind: Any) -> tuple[str, Any]:
    """'mmdet.ResNet' as ('mmdet', 'ResNet'); no scope as ''."""
    scope, dot, name = kind.partition(".") if isinstance(kind, str) else ("", "", kind)
    return (scope, name) if dot and scope in SCOPES else ("", kind)


def _unscoped(node: Any) -> Any:
    """The same tree, changed in place, with no scope in any `type` and no `_scope_`."""
    if isinstance(node, dict):
        node.pop("_scope_", None)
        if "type" in node:
            node["type"] = _split(node["type"])[1]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _unscoped(child)
    return node
