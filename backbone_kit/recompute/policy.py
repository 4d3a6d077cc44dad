"""What `recompute=` says: which tensors of a backbone's forward are kept for backward, and which are made again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Literal, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..layers.tracing import is_heard, is_traced
from .block import unmoved
from .budget import cheapest, choices
from .kept_set import Problem, kept_set
from .tape import Policy, Tape, unit_ends

MIB = 2**20
T = TypeVar("T")


class Budget(TypedDict):
    """What a backbone may keep for backward, in MiB."""

    budget_mb: float


Recompute = Literal["cheap"] | Budget
Plan = list[tuple[list[int], frozenset[int] | None]]
"""For each unit, the multiply-accumulates of its products, and which of them may run again."""
_COMPILED = (
    "recompute=dict(budget_mb=…) plans what runs eagerly. Compiled, give recompute=None, and the compiler a budget of "
    "its own: torch._functorch.config.activation_memory_budget, from 0 to 1"
)
_LISTS = (nn.Sequential, nn.ModuleList)


class Recomputation:
    """Runs a backbone so that it keeps what `recompute` says.

    Args:
        recompute: 'cheap': convolutions and linear layers never run again, everything else where that is less to keep.
            `dict(budget_mb=…)`: what is kept fits in that, with as few multiply-accumulates run again as possible.

    Raises:
        ConfigError: The budget is no positive number.
    """

    def __init__(self, recompute: Recompute) -> None:
        self.asked = recompute
        self.budget = None if isinstance(recompute, str) else recompute["budget_mb"]
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            raise ConfigError(f"must be a finite number of MiB above 0, got {self.budget}", ("recompute", "budget_mb"))
        self._plans: dict[Any, Plan] = {}

    def add(self, part: nn.Module) -> None:
        """Has units of this part end where its blocks do.

        Raises:
            ConfigError: Its blocks are recomputed already.
        """
        if any(getattr(module, "with_cp", False) for module in part.modules()):
            both = "cannot go with with_cp=True, which has whole blocks run again; remove one of the two"
            raise ConfigError(both, ("recompute",))
        for block in _blocks(part):
            block.register_forward_hook(_block_ends)

    def run(self, backbone: nn.Module, function: Callable[[Tensor], T], x: Tensor, kind: Hashable) -> T:
        """`function(x)`, which computes with the modules of `backbone`, on a tape while gradients are recorded.

        Args:
            backbone: It.
            function: From a picture to maps.
            x: The picture.
            kind: What tells this function from others.

        Raises:
            ConfigError: For this picture, the budget cannot be met.
        """
        if not torch.is_grad_enabled() or is_traced(x):
            return function(x)
        if torch.compiler.is_compiling():
            if self.budget is not None:
                raise RuntimeError(_COMPILED)
            return function(x)
        if _is_transformed():
            return function(x)
        if self.budget is None:
            policy: Policy = _cheap
        else:
            key = kind, _situation(backbone, x)
            if key not in self._plans:
                self._plans[key] = _plan(backbone, function, x, self.budget)
            policy = partial(_as_planned, self._plans[key])
        with Tape(policy):
            return function(x)


def _as_planned(plan: Plan, unit: int, problem: Problem) -> frozenset[int]:
    """What to keep of a unit; of one that is not as it was planned, the least."""
    products = _products(problem)
    planned, again = plan[unit] if unit < len(plan) else ([], None)
    if planned != [problem[index].macs for index in products]:
        again = frozenset(range(len(products)))
    return kept_set(problem, None if again is None else frozenset(products[number] for number in again))


def _products(problem: Problem) -> list[int]:
    return [index for index, node in enumerate(problem) if node.macs]


def _cheap(unit: int, problem: Problem) -> frozenset[int]:
    return kept_set(problem, frozenset(i for i, node in enumerate(problem) if node.macs and not node.has_weight))


def _plan(backbone: nn.Module, function: Callable[[Tensor], Any], x: Tensor, budget: float) -> Plan:
    """What to do with each unit, from a run on the meta device."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    problems: list[Problem] = []

    def note(unit: int, problem: Problem) -> frozenset[int]:
        problems.append(problem)
        return frozenset()

    torch.clear_autocast_cache()
    try:
        with unmoved([*backbone.buffers()]), _deaf(backbone), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            own = [twin for t in chain(backbone.parameters(), backbone.buffers()) for twin in (t, mode.from_tensor(t))]
            picture = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
            with Tape(note) as tape:
                outputs = function(picture.requires_grad_(x.requires_grad))
    finally:
        torch.clear_autocast_cache()  # of weights without memory
    weights = {tensor.untyped_storage()._cdata for tensor in own}
    given = sum(size for key, size in tape.given.items() if key not in weights)
    del outputs
    units = [choices(problem) for problem in problems]
    chosen = cheapest(units, int(budget * MIB) - given)
    if chosen is None:
        most, least = ((given + sum(unit[end].size for unit in units)) / MIB for end in (0, -1))
        raise ConfigError(
            f"must be {math.ceil(10 * least) / 10} or more for a picture of shape {tuple(x.shape)}, got {budget}: that "
            f"is kept where all runs again that can, {most:.1f} where nothing does; raise it, or give less at a time",
            ("recompute", "budget_mb"),
        )
    return [
        (
            [problem[index].macs for index in _products(problem)],
            None if choice.again is None else frozenset(map(_products(problem).index, choice.again)),
        )
        for problem, choice in zip(problems, chosen)
    ]


def _is_transformed() -> bool:
    """Whether this runs inside torch.func's grad, vmap or jvp, or in forward mode, which know no tape."""
    forward_mode: int = torch.autograd.forward_ad._current_level
    return forward_mode >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


@contextlib.contextmanager
def _deaf(net: nn.Module) -> Iterator[None]:
    """Meanwhile, hooks do nothing, but are there: layers with hooks run in another way than those without."""
    hooks = [each for module in net.modules() for each in (module._forward_hooks, module._forward_pre_hooks)]
    before = [dict(each) for each in hooks]
    try:
        for each in hooks:
            each.update({key: _nothing for key, hook in each.items() if hook is not _block_ends})
        yield
    finally:
        for each, hook in zip(hooks, before):
            each.update(hook)


def _nothing(*_: Any) -> None:
    """A hook."""


def _situation(backbone: nn.Module, x: Tensor) -> Hashable:
    """What a plan depends on."""
    kind = x.device.type
    autocasts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocasts else x.dtype
    modules = tuple((m.training, getattr(m, "_folds", True), is_heard(m)) for m in backbone.modules())
    trains = tuple(parameter.requires_grad for parameter in backbone.parameters())
    place = (x.shape, x.stride(), x.device, x.dtype, dtype, x.requires_grad)
    return place, modules, trains


def _block_ends(block: nn.Module, inputs: Any, outputs: Any) -> None:
    unit_ends(outputs)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a part: what stands in its sequences and lists, or itself."""
    children = [child for child in module.children() if any(child.children())]
    if isinstance(module, _LISTS):
        lists = children
    else:
        lists = [child for child in children if isinstance(child, _LISTS) and _is_stack(child)]
        if not lists and any(module.children()):
            yield module
    for child in lists:
        yield from _blocks(child)


def _is_stack(layers: nn.Module) -> bool:
    """Whether a list holds several blocks of one class."""
    kinds = [type(child) for child in layers.children() if any(child.children()) and not isinstance(child, _LISTS)]
    return len(kinds) > len(set(kinds))
