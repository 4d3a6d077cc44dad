"""The configs that come along are the nets that their names say, by closed forms and published sizes."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

import pytest
import torch

from backbone_kit import build_backbone, list_backbones
from backbone_kit.names import TABLE, named_config, named_configs

CONFIGS = {name: named_config(name) for name in list_backbones()}
FILES = [name for name, path in named_configs().items() if path.name != TABLE]
RESNETS = [
    name for name in FILES if CONFIGS[name]["type"] in ("ResNet", "ResNetV1c", "ResNetV1d") and name[:6] == "resnet"
]
SIZE = (416, 608)  # not powers of two; every stage rounds up

# From the census of MMDetection's own nets, without a classifier.
PARAMETERS = {
    "resnet18": 11176512,
    "resnet34": 21284672,
    "resnet50": 23508032,
    "resnet101": 42500160,
    "resnet152": 58143808,
    "resnet50_c4": 8543296,
    "resnet50_caffe_c4": 8543296,
    "resnet50_dc5": 23508032,
    "resnet50_gn": 23508032,
    "resnet50_gn_ws": 23508032,
    "resnet50_gcb_r4": 33508941,
    "resnet50_gcb_r16": 26029773,
    "resnet50_attention_0010": 27053129,
    "resnet50_attention_1111": 29415497,
    "resnet50_nonlocal": 24298304,
    "resnet50_se": 26039024,  # MMPretrain's SEResNet
    "resnet50_dropblock": 23508032,
    "resnet50_v1d": 23527264,
    "resnet101_v1d": 42519392,
}


@pytest.mark.parametrize("name", RESNETS)
def test_shapes_follow_from_the_numbers_in_the_file(name: str) -> None:
    cfg = CONFIGS[name]
    expansion = 4 if cfg["depth"] >= 50 else 1
    stages = cfg["num_stages"]
    strides = list(accumulate(cfg.get("strides", (1, 2, 2, 2)[:stages]), mul, initial=4))[1:]
    with torch.device("meta"):
        net = build_backbone(cfg).eval()
        outputs = net(torch.empty(1, 3, *SIZE))
    expected = [
        (1, 64 * 2**i * expansion, -(-SIZE[0] // strides[i]), -(-SIZE[1] // strides[i])) for i in cfg["out_indices"]
    ]
    assert [tuple(out.shape) for out in outputs] == expected


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_sizes_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build_backbone(CONFIGS[name]).parameters()) == parameters


@pytest.mark.parametrize("name", RESNETS)
def test_names_say_what_is_in_the_file(name: str) -> None:
    """Each word of a name is a property of the net, and each property has its word."""
    cfg = CONFIGS[name].to_dict()
    words = name.split("_")
    assert words[0] == f"resnet{cfg['depth']}"
    assert ("caffe" in words) == (cfg["style"] == "caffe")
    assert ("c4" in words) == (cfg["num_stages"] == 3)
    assert ("dc5" in words) == (cfg.get("dilations") == [1, 1, 1, 2] and cfg["out_indices"] == [3])
    assert ("gn" in words) == (cfg["norm_cfg"]["type"] == "GN")
    assert ("ws" in words) == (cfg.get("conv_cfg", {}).get("type") == "ConvWS")
    assert next((w for w in words if w.startswith("dcn")), "") == cfg.get("dcn", {}).get("type", "").lower()
    assert ("gcb" in words) == any(p["cfg"]["type"] == "ContextBlock" for p in cfg.get("plugins", ()))
    for word, kind in (("se", "SELayer"), ("eca", "ECA"), ("cbam", "CBAM"), ("sk", "SelectiveKernel")):
        assert (word in words) == any(p["cfg"]["type"] == kind for p in cfg.get("plugins", ()))
    assert next((f"ResNetV{w[1:]}" for w in words if w in ("v1c", "v1d")), "ResNet") == cfg["type"]
    output_stride = {(1, 2, 1, 1): "d8", (1, 2, 2, 1): "d16"}.get(tuple(cfg.get("strides", ())), "")
    assert "dc5" in words or next((w for w in words if w in ("d8", "d16")), "") == output_stride
