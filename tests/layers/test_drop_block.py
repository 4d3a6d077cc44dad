"""DropBlock drops what its paper says, with MMDetection's schedule; with timm's options, it is timm's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropBlock2d
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.backbones import ResNet
from backbone_kit.backbones.blocks import BasicBlock
from backbone_kit.checkpoint import load_checkpoint
from backbone_kit.layers import DropBlock, build_plugin_layer

from ..torch_versions import dynamic_export

TIMM = dict(warmup_iters=0, whole_blocks=False)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What `bernoulli_` is asked for; the numbers it draws are the same for the same seed and shape."""
    asked: list[float] = []

    def draw(self: Tensor, p: Any) -> Tensor:
        asked.append(float(p))
        return self.copy_(torch.rand(self.shape) < asked[-1])

    monkeypatch.setattr(Tensor, "bernoulli_", draw)
    return asked


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7, 11])
@pytest.mark.parametrize("options", [{}, {"gamma_scale": 0.25, "scale_by_keep": False}, {"couple_channels": True}])
def test_with_timms_options_it_is_timms(block_size: int, options: dict[str, Any], drawn: list[float]) -> None:
    ours = DropBlock(0.3, block_size, **TIMM, **options)
    peer = DropBlock2d(0.3, block_size, **{"couple_channels": False, **options})
    x, outputs = torch.randn(2, 6, 9, 7), []
    for net in (ours, peer):
        torch.manual_seed(1)
        outputs.append(net(x))
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-6)
    assert (outputs[1] == 0).any()
    torch.testing.assert_close(*outputs)


@torch.no_grad()
def test_drop_block_rate_of_a_resnet_drops_as_timms_does(drawn: list[float]) -> None:
    sizes = dict(layers=(1, 1, 2, 1), drop_block_rate=0.3)
    peer = timm.models.resnet.ResNet(timm.models.resnet.Bottleneck, **sizes, zero_init_last=False, num_classes=0)
    net = ResNet(50, **sizes, norm_eval=False)  # type: ignore[arg-type]
    net.load_state_dict(peer.state_dict())
    x, outputs = torch.randn(2, 3, 160, 128), []
    for forward in (peer.train().forward_features, net.train()):
        torch.manual_seed(1)
        outputs.append(forward(x))
    assert drawn[:3] == pytest.approx(drawn[3:], rel=1e-6)
    torch.testing.assert_close(outputs[1][-1], outputs[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("couple_channels", [False, True])
def test_what_is_dropped_are_whole_squares_and_the_rest_is_scaled_to_the_same_sum(
    side: int, couple_channels: bool
) -> None:
    net = DropBlock(0.4, side, warmup_iters=0, couple_channels=couple_channels)
    x = torch.rand(8, 5, 9, 7) + 1
    factor = net(x) / x
    dropped = (factor == 0).double()
    squares = F.unfold(dropped.flatten(0, 1).unsqueeze(1), side).amin(1, keepdim=True)  # 1 where one is dropped whole
    covered = F.fold(squares.expand(-1, side**2, -1), (9, 7), side).squeeze(1).view_as(dropped) > 0
    assert torch.equal(covered, dropped > 0)
    assert 0.1 < dropped.mean() < 0.6
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) is couple_channels
    left = factor[factor > 0]
    torch.testing.assert_close(left, torch.full_like(left, factor.numel() / len(left)))


@pytest.mark.parametrize("side", [1, 3, 4])
def test_a_pixel_is_kept_as_often_as_the_closed_form_says(side: int) -> None:
    """(1 - gamma) to the power of the squares over it, which differ from the edge to the middle."""
    height, width, maps = 8, 6, 20000
    gamma = 0.3 * height * width / (side**2 * (height - side + 1) * (width - side + 1))
    down, across = (
        torch.tensor([min(i, n - side) - max(i - side + 1, 0) + 1 for i in range(n)]) for n in (height, width)
    )
    expected = (1 - gamma) ** torch.outer(down, across)
    kept = (DropBlock(0.3, side, warmup_iters=0)(torch.ones(maps // 4, 4, height, width)) > 0).float().mean((0, 1))
    deviation = (expected * (1 - expected) / maps).sqrt()
    assert ((kept - expected).abs() < 4.5 * deviation).all()


def test_the_schedule_grows_linearly_and_stays(drawn: list[float]) -> None:
    net, x = DropBlock(0.2, 3, warmup_iters=4), torch.randn(1, 2, 9, 7)
    for _ in range(6):
        net(x)
    full = 0.2 * 63 / (9 * 7 * 5)
    assert drawn == pytest.approx([full * i for i in (0.25, 0.5, 0.75, 1, 1, 1)], rel=1e-6)
    assert net.iteration == 6


def test_the_schedule_is_saved_and_resumed(drawn: list[float]) -> None:
    x, first, second = torch.randn(1, 2, 9, 7), DropBlock(0.2, 3, 10), DropBlock(0.2, 3, 10)
    for _ in range(3):
        first(x)
    second.load_state_dict(first.state_dict())
    second(x)
    assert drawn[-1] == pytest.approx(0.4 * 0.2 * 63 / (9 * 7 * 5), rel=1e-6)
    assert list(DropBlock(0.2, 3, warmup_iters=0).state_dict()) == []


def test_a_checkpoint_may_lack_the_schedule() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), DropBlock(0.2, 3))
    net(torch.randn(1, 2, 9, 7))
    state = {key: value for key, value in net.state_dict().items() if "iteration" not in key}
    for load in (nn.Module.load_state_dict, load_checkpoint):
        load(net, state)  # type: ignore[operator]
        assert net[1].iteration == 1
    assert list(state) == ["0.weight", "0.bias"]


def test_the_schedule_of_a_net_built_on_meta_starts_at_zero() -> None:
    entry = {"cfg": {"type": "DropBlock", "drop_prob": 0.5, "block_size": 3}, "position": "after_conv2"}
    with torch.device("meta"):
        net = ResNet(18, plugins=[entry], base_channels=4)  # type: ignore[list-item]
    net.to_empty(device="cpu")
    net.layer1[0].drop_block.iteration.fill_(7)
    net.init_weights()
    assert net.layer1[0].drop_block.iteration == 0


def test_eval_and_probability_zero_return_the_input_itself_and_count_nothing() -> None:
    x = torch.randn(1, 2, 9, 7)
    net = DropBlock(0.5, 3).eval()
    assert net(x) is x
    assert net.iteration == 0
    assert DropBlock(0.0, 3)(x) is x


def test_all_may_be_dropped_also_in_maps_smaller_than_a_square() -> None:
    for size in ((2, 3), (7, 7)):
        assert not DropBlock(1.0, 7, warmup_iters=0, gamma_scale=50.0)(torch.ones(2, 3, *size)).any()


def test_the_gradient_is_the_factor_of_the_map() -> None:
    x = (torch.rand(2, 3, 9, 7) + 1).requires_grad_()
    y = DropBlock(0.3, 3, warmup_iters=0)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_keeps_the_type_and_the_mean(dtype: torch.dtype) -> None:
    y = DropBlock(0.3, 3, warmup_iters=0)(torch.ones(4, 64, 20, 20, dtype=dtype))
    assert y.dtype == dtype
    assert y.double().mean().item() == pytest.approx(1, rel=1e-2)


@dynamic_export
@pytest.mark.parametrize("options", [{}, {"warmup_iters": 0, "whole_blocks": False}])
def test_it_compiles_whole_and_exports_for_any_size_in_training(options: dict[str, Any]) -> None:
    net = DropBlock(0.4, 3, **{"warmup_iters": 2, **options})
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="aot_eager")
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    exported = torch.export.export(net, (torch.ones(2, 3, 9, 7),), dynamic_shapes=(dims,)).module()
    runs: list[Callable[[Tensor], Tensor]] = [compiled, exported]
    for run in runs:
        outputs = [run(torch.ones(64, 3, 11, 8)) for _ in range(3)]
        dropped = [(out == 0).float().mean().item() for out in outputs]
        assert all(out.mean().item() == pytest.approx(1, rel=1e-4) for out in outputs)
        assert 0.2 < dropped[2] < 0.45
        assert (dropped[0] < 0.75 * dropped[2]) is bool(net.warmup_iters)


@pytest.mark.parametrize("compiled", [False, True])
def test_recomputed_blocks_drop_what_they_dropped(compiled: bool) -> None:
    """The second run of a block starts from the schedule of the first; otherwise it would draw other squares."""
    cfg = {"type": "DropBlock", "drop_prob": 0.5, "block_size": 1, "warmup_iters": 3}
    block = BasicBlock(8, 8, plugins=[{"cfg": cfg, "position": "after_conv2"}]).train()  # type: ignore[list-item]
    x, results = torch.randn(2, 8, 9, 7), []
    for with_cp in (False, True):
        net = copy.deepcopy(block)
        net.with_cp = with_cp
        run = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled and with_cp else net
        torch.manual_seed(1)
        for _ in range(2):
            run(x).square().mean().backward()
        results.append([p.grad for p in net.parameters()] + list(net.buffers()))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(block_size=3), "'drop_prob' is missing; DropBlock needs it"),
        (dict(drop_prob=1.5, block_size=3), "drop_prob: DropBlock: must be between 0 and 1, got 1.5"),
        (dict(drop_prob=0.1, block_size=0), "block_size: DropBlock: must be 1 or more, got 0"),
        (dict(drop_prob=0.1, block_size=3, warmup_iters=-1), "warmup_iters: DropBlock: must be 0 or more, got -1"),
        (dict(drop_prob=0.1, block_size=3, gamma_scale=-1), "gamma_scale: DropBlock: must be 0 or more, got -1"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer({"type": "DropBlock", **arguments}, in_channels=16)
