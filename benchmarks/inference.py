"""Inference: a ResNet-50 in every form, other families beside timm's, and growth with the size of the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from backbone_kit import build_backbone
from backbone_kit.optimize import prepare_for_inference

from . import nets
from .families import features
from .rounds import Rows, peak_mib, seconds

SIDE = 512
GFLOPS = 42.7
"""Of a ResNet-50 at 512x512, two a MAC."""
CONVOLUTIONS = 5
"""How often the single convolution runs for one time, so that it takes about as long as a net."""
YARDSTICK = "one 3×3 convolution"
YARDSTICK_GFLOPS = 2 * CONVOLUTIONS * 256 * 256 * 9 * 64 * 64 / 1e9
ALONE = "its convolutions alone"
FAMILIES = ("resnext50_32x4d", "resnest50d", "regnety_032", "ghostnet_100", "ghostnetv3_100", "hrnet_w18")
SIDES = (256, 512, 1024, 2048)


def forms(rounds: int, compiles: bool) -> Rows:
    """A ResNet-50 here and there, as built and made ready; last, a single convolution as a yardstick.

    Before it, the net's own convolutions one after another and nothing else: what no net of them can be below.
    """
    x = torch.randn(1, 3, SIDE, SIDE)
    in_layout = x.to(memory_format=torch.channels_last)
    net = nets.ours().eval()
    peers = {name: build().eval() for name, build in nets.PEERS.items()}
    laid_out = {name: build().eval().to(memory_format=torch.channels_last) for name, build in nets.PEERS.items()}
    conv = nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    map_ = torch.randn(1, 256, 64, 64).to(memory_format=torch.channels_last)
    runs: dict[str, Callable[[], Any]] = {
        "ours, prepared": _on(prepare_for_inference(net, x, compiled=compiles), x),
        "ours, prepared without a compiler": _on(prepare_for_inference(net, x, compiled=False), x),
        "ours, as built": _on(net, x),
        **{name: _on(peer, x) for name, peer in peers.items()},
        **{f"{name}, channels_last": _on(peer, in_layout) for name, peer in laid_out.items()},
    }
    if torch.cpu._is_avx512_bf16_supported():  # elsewhere it is emulated, many times slower than float32
        runs["ours, prepared, bf16"] = _on(prepare_for_inference(net, x, torch.bfloat16, compiled=compiles), x)
    if compiles:
        runs |= {f"{name}, compiled": _on(nets.compiled(peer), x) for name, peer in peers.items()}
    runs[ALONE] = _convolutions_of(net, in_layout)
    runs[YARDSTICK] = lambda: [conv(map_) for _ in range(CONVOLUTIONS)]
    with torch.no_grad():
        found = seconds(runs, rounds)
    for name, row in found.items():
        row["GFLOP/s"] = (YARDSTICK_GFLOPS if name == YARDSTICK else GFLOPS) / row["seconds"]
    return found


def families(rounds: int, compiles: bool) -> dict[str, Rows]:
    """Other families at 256x256: prepared here, and timm's of that name."""
    x = torch.randn(1, 3, 256, 256)
    found = {}
    for name in FAMILIES:
        theirs = features(timm.create_model(name, num_classes=0).eval())
        net = build_backbone(name).eval()
        runs = {"timm": _on(theirs, x), "ours": _on(net, x)}
        runs["prepared"] = _on(prepare_for_inference(net, x, compiled=compiles), x)
        if compiles:
            runs["timm, compiled"] = _on(nets.compiled(theirs), x)
        with torch.no_grad():
            found[name] = seconds(runs, rounds)
    return found


def growth(rounds: int, compiles: bool) -> dict[str, Rows]:
    """Time and memory of a ResNet-50 by the side of the picture."""
    net = nets.ours().eval()
    peers = {name: build().eval() for name, build in nets.PEERS.items()}
    found = {}
    for side in SIDES:
        x = torch.randn(1, 3, side, side)
        kinds = {"ours, prepared": prepare_for_inference(net, x, compiled=compiles), "ours, as built": net, **peers}
        runs = {name: _on(run, x) for name, run in kinds.items()}
        with torch.no_grad():
            found[str(side)] = seconds(runs, max(2, rounds * SIDES[0] // side))
            for name, run in runs.items():
                found[str(side)][name]["peak MiB"] = peak_mib(run)
    return found


def _convolutions_of(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Every convolution of a net on a map of its size, weights packed as a compiled net has them, maps in the cache."""
    calls: list[tuple[Any, ...]] = []
    values = torch.randn(64 * SIDE * SIDE)

    def note(conv: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(conv, nn.Conv2d)
        where = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        n, c, h, w = inputs[0].shape
        weight = conv.weight.detach().to(memory_format=torch.channels_last)
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *where, [n, c, h, w])
        map_ = values[: n * c * h * w].view(n, h, w, c).permute(0, 3, 1, 2)
        calls.append((map_, packed, torch.zeros(conv.out_channels), *where, "none", [], ""))

    hooks = [conv.register_forward_pre_hook(note) for conv in net.modules() if isinstance(conv, nn.Conv2d)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for call in calls:
            torch.ops.mkldnn._convolution_pointwise(*call)

    return run


def _on(run: Callable[[Tensor], Any], x: Tensor) -> Callable[[], Any]:
    return lambda: run(x)
