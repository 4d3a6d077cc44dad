"""Where a compiler is found, torch.compile's own backend computes the same, in eval and in training."""

from __future__ import annotations

import shutil

import pytest
import torch

from backbone_kit.backbones import ResNet


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_computes_the_same() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    net = ResNet(18, layers=(1,), base_channels=8, num_stages=1, norm_eval=False, zero_init_residual=False)
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, eager in zip(compiled.eval()(x), net.eval()(x)):
            torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-4)

    gradients = []
    for model in (net.train(), compiled.train()):
        net.zero_grad()
        sum(out.square().mean() for out in model(x)).backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, eager in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], eager, rtol=1e-3, atol=1e-4, msg=lambda t, n=name: f"{n}: {t}")
