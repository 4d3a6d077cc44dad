"""Training steps of a ResNet-50: fine-tuned as detectors are, trained as a whole, and growth with the batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.kept import kept_bytes

from . import nets
from .rounds import Rows, peak_mib, seconds

BATCHES = (1, 2, 4, 8, 16)
FINE_TUNED = ("ours", "ours, not folded", "timm", "torchvision")


def fine_tuning(rounds: int) -> Rows:
    """Stem and first stage frozen, norms on their running statistics; 2x3x512x512."""
    return _measured({kind: nets.as_detectors_train(kind) for kind in FINE_TUNED}, torch.randn(2, 3, 512, 512), rounds)


def whole(rounds: int) -> Rows:
    """Everything trained, norms on the statistics of the batch; 2x3x512x512."""
    kinds = {"ours": nets.ours().train(), **{name: build().train() for name, build in nets.PEERS.items()}}
    return _measured(kinds, torch.randn(2, 3, 512, 512), rounds)


def growth(rounds: int) -> dict[str, Rows]:
    """Fine-tuning by the number of pictures, of 256x256."""
    kinds = {kind: nets.as_detectors_train(kind) for kind in FINE_TUNED if kind != "ours, not folded"}
    return {str(n): _measured(kinds, torch.randn(n, 3, 256, 256), max(2, rounds // n)) for n in BATCHES}


def _measured(kinds: Mapping[str, nn.Module], x: Tensor, rounds: int) -> Rows:
    found = seconds({name: lambda net=net: _step(net, x) for name, net in kinds.items()}, rounds)
    for name, net in kinds.items():
        found[name] |= {"kept MiB": kept_bytes(net, x) / 2**20, "peak MiB": peak_mib(lambda net=net: _step(net, x))}
    return found


def _step(net: nn.Module, x: Tensor) -> None:
    sum(out.mean() for out in net(x)).backward()
    for parameter in net.parameters():
        parameter.grad = None
