"""ResNet equals torchvision's and timm's, run live on the same weights."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from backbone_kit.backbones import Backbone, ResNet
from backbone_kit.backbones.resnet_v1 import ResNetV1c, ResNetV1d

LAYERS = {f"layer{i}": str(i) for i in range(1, 5)}


def randomized(peer: nn.Module) -> nn.Module:
    """Norms off their start, so that a norm that is skipped or swapped shows."""
    generator = torch.Generator().manual_seed(0)
    for layer in peer.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
            nn.init.normal_(layer.running_mean, std=0.1, generator=generator)
            nn.init.uniform_(layer.running_var, 0.5, 1.5, generator=generator)
    return peer.eval()


def relative_difference(ours: tuple[Tensor, ...], theirs: list[Tensor]) -> float:
    assert len(ours) == len(theirs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))


def served(net: Backbone, state_dict: dict[str, Tensor]) -> Backbone:
    net.load_state_dict({key: value for key, value in state_dict.items() if not key.startswith("fc.")})
    return net.eval()


@pytest.mark.parametrize("depth", [18, pytest.param(34, marks=pytest.mark.slow), 50])
@torch.no_grad()
def test_equals_torchvision(depth: int) -> None:
    peer = randomized(getattr(torchvision.models, f"resnet{depth}")(weights=None))
    levels = torchvision.models._utils.IntermediateLayerGetter(peer, LAYERS)
    x = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    ours = served(ResNet(depth), peer.state_dict())(x)
    assert relative_difference(ours, list(levels(x).values())) < 1e-5


@pytest.mark.parametrize(("output_stride", "dilated"), [(8, (False, True, True)), (16, (False, False, True))])
@torch.no_grad()
def test_output_stride_equals_torchvisions_dilation(output_stride: int, dilated: tuple[bool, ...]) -> None:
    peer = randomized(torchvision.models.resnet50(weights=None, replace_stride_with_dilation=dilated))
    levels = torchvision.models._utils.IntermediateLayerGetter(peer, LAYERS)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    net = served(ResNet(50, output_stride=output_stride), peer.state_dict())
    assert relative_difference(net(x), list(levels(x).values())) < 1e-5
    assert net.out_strides[-1] == output_stride


# At stride 16, timm dilates BasicBlock's second 3x3 too, and pads ResNet-D's shortcut in another way.
@pytest.mark.parametrize(
    ("name", "make", "output_stride"),
    [
        ("resnet18", lambda **kw: ResNet(18, **kw), 32),
        ("resnet50", lambda **kw: ResNet(50, **kw), 32),
        ("resnet50", lambda **kw: ResNet(50, **kw), 16),
        ("resnet50c", lambda **kw: ResNetV1c(50, **kw), 32),
        ("resnet50c", lambda **kw: ResNetV1c(50, **kw), 16),
        ("resnet50d", lambda **kw: ResNetV1d(50, **kw), 32),
    ],
)
@torch.no_grad()
def test_equals_timm(name: str, make: type[ResNet], output_stride: int) -> None:
    peer = randomized(
        timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4), output_stride=output_stride)
    )
    deep = {"conv1.": "stem.", "bn1.": "stem.7."} if "conv1.0.weight" in peer.state_dict() else {}
    weights = {_renamed(key, deep): value for key, value in peer.state_dict().items()}
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    options = {} if output_stride == 32 else {"output_stride": output_stride}
    net = make(**options)
    if name == "resnet50d":  # timm's Identity holds the same place in the keys as a pool of 1
        assert "layer1.0.downsample.1.weight" in weights
    assert relative_difference(served(net, weights)(x), peer(x)) < 1e-5


def _renamed(key: str, prefixes: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if re.match(re.escape(old), key):
            return new + key[len(old) :]
    return key
