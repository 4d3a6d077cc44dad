"""What every layer promises to compilers and exporters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def compiles_trains_and_exports(net: nn.Module, x: Tensor, larger: Tensor) -> None:
    """One compiled graph with eager's gradients; one exported program for any N, H and W.

    Args:
        net: A layer, on maps (N, C, H, W).
        x: What it is compiled and exported with.
        larger: A map of another N, H and W, which the program has to take too.
    """
    torch._dynamo.reset()
    torch.compile(net, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    compiled = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    net(x).square().sum().backward()
    eager = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert any(gradient.any() for gradient in eager)
    for ours, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, expected)

    any_size = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    program = torch.export.export(net, (x,), dynamic_shapes=(any_size,))
    torch.testing.assert_close(program.module()(larger), net(larger))
