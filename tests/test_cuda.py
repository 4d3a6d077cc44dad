"""What a CPU computes, a GPU does too; left out where there is none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbone_kit import BACKBONES
from backbone_kit.backbones import Backbone, ResNet
from backbone_kit.distributed import shard
from backbone_kit.finetune import convert_norms
from backbone_kit.layers import conv_norm, deform_conv2d, fold_norms
from backbone_kit.optimize import prepare_for_inference

from .backbones.test_contract import per_class, tiny
from .backbones.test_folding import settled
from .recompute.test_policies import STYLES, pictures, small, step

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1"),
]


def on_gpu(net: Backbone) -> Backbone:
    return copy.deepcopy(net).cuda()


@pytest.fixture(autouse=True)
def _small_maps_are_folded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_norm, "_LAUNCHES_PAY", 0)


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-7) -> None:
    for key, value in expected.items():
        if key != "state":
            exact = value.detach().cpu().double()
            off = (ours[key].detach().cpu() - exact).norm() / exact.norm().clamp(min=1e-6)
            assert off <= tolerance, f"{key} is off by {off:.1e}"


@per_class
@pytest.mark.parametrize("style", STYLES)
def test_every_backbone_takes_the_step_that_it_takes_on_a_cpu(kind: str, style: dict[str, Any]) -> None:
    wide = {"base_channels": 16} if issubclass(BACKBONES.get(kind), ResNet) and kind != "RegNet" else {}
    net = tiny(kind, **style, **wide).double().train()
    assert_close(step(on_gpu(net), pictures().cuda()), step(net, pictures()))


@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 1.2}])
@pytest.mark.parametrize("style", STYLES)
def test_recomputing_is_the_same_step(recompute: Any, style: dict[str, Any]) -> None:
    assert_close(step(on_gpu(small(**style, recompute=recompute)), pictures().cuda()), step(small(**style), pictures()))


@pytest.mark.parametrize("recompute", [None, "cheap"])
def test_under_autocast_folding_rounds_hardly_more(recompute: Any) -> None:
    recipe: dict[str, Any] = {"norm_eval": True, "frozen_stages": 1}
    exact = step(settled(small(**recipe)).double(), pictures())  # type: ignore[arg-type]
    errors = []
    for folds in (True, False):
        net = settled(small(**recipe, recompute=recompute)).float().cuda().to(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16):
            found = step(fold_norms(net, folds), pictures().float().cuda())  # type: ignore[arg-type]
        off = [(found[key].double().cpu() - exact[key]).norm() / exact[key].norm() for key in exact if "weight" in key]
        errors.append(torch.stack(off).mean().item())
    assert errors[0] <= 2 * errors[1] < 0.1


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_prepared_nets_give_the_maps(dtype: torch.dtype, compiled: bool) -> None:
    net = settled(ResNet(18, layers=(1, 1, 1, 1), base_channels=16)).cuda().eval()
    x = torch.rand(2, 3, 96, 64, device="cuda")
    maps = prepare_for_inference(net, x, dtype, compiled=compiled)(x)  # type: ignore[arg-type]
    assert all(y.dtype == dtype and y.is_cuda for y in maps)


def test_deformable_convolution_is_what_it_is_on_a_cpu() -> None:
    shapes = {"x": (2, 8, 9, 11), "offset": (2, 36, 9, 11), "weight": (6, 4, 3, 3), "mask": (2, 18, 9, 11)}
    leaves = {name: torch.randn(*shape, dtype=torch.float64) for name, shape in shapes.items()}
    results = []
    for device in ("cpu", "cuda"):
        a = {name: leaf.detach().to(device).requires_grad_() for name, leaf in leaves.items()}
        y = deform_conv2d(a["x"], a["offset"], a["weight"], None, 1, 1, 1, a["mask"])
        y.square().sum().backward()
        results.append({"y": y.detach(), **{name: leaf.grad for name, leaf in a.items()}})
    assert_close(results[1], results[0])


def test_synchronized_norms_and_shards_train_there(tmp_path: Any) -> None:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        expected = step(small(18), pictures())
        synchronized = convert_norms(small(18), {"type": "SyncBN"}).cuda()
        assert any(isinstance(m, nn.SyncBatchNorm) for m in synchronized.modules())
        assert_close(step(synchronized, pictures().cuda()), expected)  # type: ignore[arg-type]
        sharded = shard(small(18).cuda())
        sum(y.square().mean() for y in sharded(pictures().cuda())).backward()
        for name, parameter in sharded.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad.full_tensor().cpu(), expected[name], rtol=1e-9, atol=1e-12)  # type: ignore[attr-defined]
    finally:
        torch.distributed.destroy_process_group()
