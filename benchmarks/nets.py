"""The same ResNet-50 from every library, four maps each, and how peers are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from backbone_kit.backbones import ResNet
from backbone_kit.layers import fold_norms

STAGES = [f"layer{i}" for i in range(1, 5)]


class _Maps(nn.Module):
    """A peer's net, as pictures in, list of maps out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        out = self.net(x)
        return list(out.values()) if isinstance(out, dict) else out


def ours() -> nn.Module:
    return ResNet(50, norm_eval=False)


def timms() -> nn.Module:
    return _Maps(timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)))


def torchvisions() -> nn.Module:
    return _Maps(IntermediateLayerGetter(torchvision.models.resnet50(), {name: name for name in STAGES}))


PEERS: dict[str, Callable[[], nn.Module]] = {"timm": timms, "torchvision": torchvisions}


def as_detectors_train(kind: str) -> nn.Module:
    """Stem and first stage frozen, every BatchNorm on its running statistics: frozen_stages=1, norm_eval=True."""
    if kind in ("ours", "ours, not folded"):
        return fold_norms(ResNet(50, frozen_stages=1, norm_eval=True).train(), kind == "ours")
    peer: Any = PEERS[kind]().train()
    for name, layer in peer.net.named_children():
        if name in ("conv1", "bn1", "layer1"):
            layer.requires_grad_(False)
    for layer in peer.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return peer


def compiled(run: Callable[..., Any]) -> Callable[..., Any]:
    """A peer compiled by inductor with its weights as constants, as PyTorch's documentation has it for the CPU."""
    from torch._inductor import config

    return config.patch(freezing=True)(torch.compile(run))
