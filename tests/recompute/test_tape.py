"""The tape: what is made again is what was there, from nothing but the operations that made it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import FlopCounterMode

from backbone_kit.recompute.kept_set import Problem, kept_set
from backbone_kit.recompute.tape import Tape, unit_ends

from ..kept import held_bytes


def everything(unit: int, problem: Problem) -> frozenset[int]:
    """As little as possible is kept."""
    return kept_set(problem, frozenset(i for i, node in enumerate(problem) if node.macs))


def nothing(unit: int, problem: Problem) -> frozenset[int]:
    return kept_set(problem, None)


def on_tape(
    function: Callable[..., Tensor], policy: Callable[..., frozenset[int]] = everything
) -> Callable[..., Tensor]:
    def run(*inputs: Tensor) -> Tensor:
        with Tape(policy):
            return function(*inputs)

    return run


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    y = function(*inputs)
    torch.manual_seed(2)  # whatever is drawn between forward and backward changes nothing
    return [y.detach(), *torch.autograd.grad(y.square().sum(), inputs)]


def leaf(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def in_place(x: Tensor, w: Tensor) -> Tensor:
    y = F.conv2d(x, w).mul_(2).add_(1).relu_()
    return F.gelu(y).mul_(0.5).add_(y)


def written_in_parts(x: Tensor, w: Tensor) -> Tensor:
    y = F.conv2d(x, w)
    z = torch.zeros_like(y)
    z[:, :2] = y[:, :2].exp()
    z[:, 2:].copy_(y[:, 2:].tanh())
    return F.silu(z).pow(2)


def views(x: Tensor, w: Tensor) -> Tensor:
    a, b = F.conv2d(x, w).chunk(2, 1)
    c = torch.cat([a.transpose(2, 3), b.exp()], 1)[:, 1:, ::2]
    return c.permute(0, 2, 3, 1).reshape(-1, 3).softmax(1)


def written_behind_a_unit(x: Tensor, w: Tensor) -> Tensor:
    y = F.conv2d(x, w)
    z = y.exp()
    unit_ends(y, keeps=True)
    y.mul_(3)  # what was kept is as it was
    return F.gelu(y) * z


def random_numbers(x: Tensor, w: Tensor) -> Tensor:
    y = F.dropout(F.conv2d(x, w).sigmoid(), 0.3)
    return F.gelu(y * torch.rand_like(y)) * torch.empty_like(y).bernoulli_(0.5)


def attention(x: Tensor, w: Tensor) -> Tensor:
    q, k, v = (t.flatten(2) for t in F.conv2d(x, w.repeat(3, 1, 1, 1)).chunk(3, 1))
    return torch.bmm(v, torch.baddbmm(torch.ones(1, dtype=q.dtype), q.transpose(1, 2), k).softmax(-1))


def linear(x: Tensor, w: Tensor) -> Tensor:
    y = F.layer_norm(x.permute(0, 2, 3, 1), (3,))
    return F.gelu(F.linear(F.gelu(F.linear(y, w.flatten(1)[:, :3])), w[:, 0, 0, :1].T.repeat(2, 1)))


def without_gradients(x: Tensor, w: Tensor) -> Tensor:
    y = F.conv2d(x, w)
    with torch.no_grad():
        factor = F.max_pool2d(y, 3, 1, 1).clamp_(min=0.1).log_()
    return F.gelu(y * factor)


FUNCTIONS = [
    *(in_place, written_in_parts, views, written_behind_a_unit, random_numbers),
    *(attention, linear, without_gradients),
]


@pytest.mark.parametrize("policy", [everything, nothing])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_are_the_same(function: Callable[..., Tensor], policy: Callable[..., frozenset[int]]) -> None:
    inputs = leaf(2, 3, 6, 6), leaf(4, 3, 3, 3, seed=1)
    for ours, plain in zip(gradients(on_tape(function, policy), *inputs), gradients(function, *inputs)):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_less_is_held_and_nothing_outlives_the_graph(function: Callable[..., Tensor]) -> None:
    inputs = leaf(2, 3, 16, 16), leaf(4, 3, 3, 3, seed=1)

    def held(run: Callable[..., Tensor]) -> int:
        return held_bytes(lambda x: [run(x, inputs[1])], inputs[0])

    assert held(on_tape(function)) < held(function) == held(on_tape(function, nothing))


def test_second_derivatives_and_second_backwards_are_the_same() -> None:
    x, w = leaf(1, 2, 5, 5), leaf(4, 2, 3, 3, seed=1)
    run = on_tape(lambda x, w: F.gelu(F.conv2d(x, w).sigmoid()))
    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))
    y = run(x, w).sum()
    first = torch.autograd.grad(y, (x, w), retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(y, (x, w))):
        assert torch.equal(one, other)


def test_running_statistics_move_once_and_are_not_needed_again() -> None:
    norm, plain = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    x, w = leaf(2, 3, 6, 6).float().detach(), leaf(4, 3, 3, 3, seed=1).float().detach().requires_grad_()
    loss = sum(on_tape(lambda: F.gelu(norm(F.conv2d(x, w))))().sum() for _ in range(2))  # moved between the two
    loss.backward()
    expected = torch.autograd.grad(sum(F.gelu(plain(F.conv2d(x, w))).sum() for _ in range(2)), w)
    assert torch.equal(w.grad, *expected)
    for ours, theirs in zip(norm.buffers(), plain.buffers()):
        assert torch.equal(ours, theirs)


def test_what_is_asked_for_is_made_once_and_let_go() -> None:
    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    x, w = leaf(2, 3, 6, 6), leaf(4, 3, 3, 3, seed=1)
    y = on_tape(lambda: F.gelu(F.gelu(F.gelu(F.conv2d(x, w)))))().sum()
    with Counter():
        y.backward()
    assert names.count("convolution") == 1
    assert names.count("gelu") == 2  # the last one gives what nothing asks for


@pytest.mark.parametrize("what", ["weight", "output"])
def test_what_changed_in_between_is_an_error_as_ever(what: str) -> None:
    x, w = leaf(2, 3, 6, 6), leaf(4, 3, 3, 3, seed=1)
    y = on_tape(lambda: F.conv2d(x, w).exp(), nothing)()
    with torch.no_grad():
        (w if what == "weight" else y).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_made_again_lies_in_memory_as_before(memory_format: torch.memory_format) -> None:
    x = leaf(2, 8, 6, 6).detach().to(memory_format=memory_format).requires_grad_()
    w = leaf(8, 8, 3, 3, seed=1).detach().to(memory_format=memory_format).requires_grad_()
    ours, plain = (gradients(f, x, w) for f in (on_tape(in_place), in_place))
    assert [t.stride() for t in ours] == [t.stride() for t in plain]
    for one, other in zip(ours, plain):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_under_autocast_the_casts_are_made_again_too() -> None:
    inputs = leaf(2, 3, 16, 16).detach().float().requires_grad_(), leaf(4, 3, 3, 3).detach().float().requires_grad_()

    def autocast(x: Tensor, w: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = F.gelu(F.conv2d(x.sigmoid(), w))
            return F.conv2d(y, w[:, :1].repeat(1, 4, 1, 1)).float()

    for ours, plain in zip(gradients(on_tape(autocast), *inputs), gradients(autocast, *inputs)):
        assert torch.equal(ours, plain)


def test_macs_are_those_that_torch_counts() -> None:
    problems: list[Problem] = []

    def note(unit: int, problem: Problem) -> frozenset[int]:
        problems.append(problem)
        return frozenset(i for i, node in enumerate(problem) if node.is_needed)

    x, w, u = leaf(2, 6, 8, 8), leaf(4, 3, 3, 3, seed=1), leaf(4, 2, 2, 2, seed=2)

    def run() -> Tensor:
        y = F.conv_transpose2d(F.conv2d(x, w, stride=2, groups=2).exp(), u, stride=2, groups=2).exp()
        z = torch.bmm(y.flatten(2), y.flatten(2).transpose(1, 2)).exp()
        z = torch.baddbmm(z, z, z).exp()
        return F.linear(F.linear(z, z[0].detach().clone().requires_grad_(), leaf(4)).exp(), leaf(5, 4)).exp()

    with FlopCounterMode(display=False) as counter, Tape(note):
        run()
    assert 2 * sum(node.macs for problem in problems for node in problem) == counter.get_total_flops()


def test_a_tape_that_cannot_start_is_not_left_running() -> None:
    with torch.autograd.graph.disable_saved_tensors_hooks("none here"), pytest.raises(RuntimeError, match="none here"):
        on_tape(F.gelu)(leaf(3))
    assert not _get_current_dispatch_mode_stack()  # type: ignore[no-untyped-call]
    unit_ends(leaf(3))  # nobody listens
