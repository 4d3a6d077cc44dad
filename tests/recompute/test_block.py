"""with_cp: the same gradients and statistics, less kept for backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_kit.backbones import ResNet

from ..kept import kept_bytes

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")


def net_of(depth: int = 50, **options: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet(depth, norm_eval=False, base_channels=16, zero_init_residual=False, **options).train()


def step(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of one step, and the buffers after it."""
    torch.manual_seed(1)
    sum(out.square().mean() for out in net(x)).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return gradients | dict(net.named_buffers())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frozen_stages": 1},
        {"frozen_stages": 0, "drop_path_rate": 0.5},
        {"depth": 18},
        {"plugins": [{"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv3"}]},
        {"norm_cfg": {"type": "SyncBN"}},
    ],
)
def test_gradients_and_statistics_are_those_of_a_plain_run(options: dict[str, Any]) -> None:
    x = torch.randn(2, 3, 64, 64)
    plain, recomputed = step(net_of(**options), x), step(net_of(**options, with_cp=True), x)
    assert plain.keys() == recomputed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("frozen_stages", [-1, 1])
def test_less_is_kept_for_backward(frozen_stages: int) -> None:
    x = torch.randn(2, 3, 128, 128)
    plain = kept_bytes(net_of(frozen_stages=frozen_stages), x)
    recomputed = kept_bytes(net_of(frozen_stages=frozen_stages, with_cp=True), x)
    assert recomputed < 0.6 * plain


@pytest.mark.slow
@pytest.mark.parametrize("frozen_stages", [-1, 1])
def test_compiled_it_is_one_graph_with_the_same_gradients(frozen_stages: int) -> None:
    torch.compiler.reset()
    x = torch.randn(2, 3, 64, 64)
    eager = step(net_of(18, frozen_stages=frozen_stages), x)
    net = net_of(18, with_cp=True, frozen_stages=frozen_stages)
    compiled = step(torch.compile(net, fullgraph=True, backend="aot_eager"), x)
    for key, value in eager.items():
        ours = compiled[f"_orig_mod.{key}"]
        torch.testing.assert_close(ours, value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("grad", [True, False])
def test_tracing_and_exporting_take_the_blocks_as_they_are(grad: bool) -> None:
    net = net_of(18, with_cp=True).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = net(x)
    with torch.set_grad_enabled(grad):
        traced = torch.fx.symbolic_trace(net), torch.jit.trace(net, x), torch.export.export(net, (x,)).module()
    for ours in (function(x) for function in traced):
        for out, reference in zip(ours, expected):
            torch.testing.assert_close(out, reference)
