"""What to keep of each unit so that all of it fits in a budget, and as little as possible is multiplied again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, chain, combinations, pairwise
from typing import Any, NamedTuple

from .kept_set import Problem, kept_set, made_again

_GROUPS = 6  # Of more products than that in a unit, neighbours run again together: 2**6 cuts are looked at.
_MAC = 1 << 50  # What a product costs; bytes that are made again without one only decide between equals.


class Choice(NamedTuple):
    """A way to treat a unit.

    Attributes:
        size: Bytes that are kept.
        cost: Multiply-accumulates that run again, and, far behind them, bytes that are made again.
        again: The products that may run again; None: nothing is made again.
    """

    size: int
    cost: int
    again: frozenset[int] | None

    @property
    def macs(self) -> int:
        """Multiply-accumulates that run again."""
        return self.cost // _MAC


@lru_cache(maxsize=4096)
def choices(problem: Problem) -> tuple[Choice, ...]:
    """The ways to treat a unit of which none is both smaller and cheaper; the largest, which costs nothing, first."""
    products = [index for index, node in enumerate(problem) if node.macs and not node.is_fixed]
    count = min(len(products), _GROUPS)
    groups = [products[len(products) * i // count : len(products) * (i + 1) // count] for i in range(count)]
    subsets = chain.from_iterable(combinations(groups, number) for number in range(count + 1))
    return tuple(_best([_choice(problem, None), *(_choice(problem, frozenset(chain(*s))) for s in subsets)]))


def cheapest(units: Sequence[Sequence[Choice]], room: int) -> list[Choice] | None:
    """A choice for each unit, of the least cost among all that fit in `room` bytes; None: none does.

    The choices of a unit are as `choices` gives them: the first one costs nothing.
    Unit by unit, combinations are dropped that another beats in size and cost, and those that cannot be completed to
    one as cheap as a known one.
    """
    steps = sorted(
        ((step, index) for index, unit in enumerate(units) for step in _steps(unit)), key=lambda pair: pair[0].ratio
    )
    sizes = [*accumulate((unit[0].size for unit in reversed(units)), initial=0)][::-1]
    bounds = [_Bound(sizes[k], [step for step, index in steps if index >= k]) for k in range(len(units) + 1)]
    most = bounds[0].reached(room)
    if most is None:
        return None
    front = [_Sum(0, 0, ())]
    for unit, bound in zip(units, bounds[1:]):
        sums = [_Sum(s.size + c.size, s.cost + c.cost, (s.chosen, c)) for s in front for c in unit]
        front = [s for s in _best(sums) if bound.is_within(room - s.size, most - s.cost)]
    chosen, found = front[0].chosen, []
    while chosen:
        chosen, choice = chosen
        found.append(choice)
    return found[::-1]


def _choice(problem: Problem, again: frozenset[int] | None) -> Choice:
    kept = kept_set(problem, again)
    made = [problem[index] for index in made_again(problem, kept)]
    size = sum(problem[index].size or 0 for index in kept)
    return Choice(size, sum(node.macs * _MAC + (node.size or 0) for node in made), again)


def _best(found: list[Any]) -> list[Any]:
    """Of choices or sums of them, those that no other beats in size and cost; the largest, and cheapest, first."""
    best: list[Any] = []
    for one in sorted(found, key=lambda one: (one.cost, one.size)):
        if not best or one.size < best[-1].size:
            best.append(one)
    return best


class _Sum(NamedTuple):
    """One choice for each of the first units; `chosen` is the last of them behind the `chosen` of the others."""

    size: int
    cost: int
    chosen: tuple[Any, ...]


class _Step(NamedTuple):
    """From one choice to a smaller one."""

    saved: int
    cost: int

    @property
    def ratio(self) -> Fraction:
        """What a byte costs."""
        return Fraction(self.cost, self.saved)


def _steps(unit: Sequence[Choice]) -> list[_Step]:
    """The steps down the lower convex hull of a unit's choices."""
    hull: list[Choice] = []
    for choice in unit:
        while len(hull) > 1 and _step(hull[-2], hull[-1]).ratio >= _step(hull[-1], choice).ratio:
            hull.pop()
        hull.append(choice)
    return [_step(*two) for two in pairwise(hull)]


def _step(larger: Choice, smaller: Choice) -> _Step:
    return _Step(larger.size - smaller.size, smaller.cost - larger.cost)


class _Bound:
    """What units cost in a given room, if they could take a part of a step.

    Args:
        size: Bytes of their first choices.
        steps: Theirs, those that cost least a byte first.
    """

    def __init__(self, size: int, steps: Sequence[_Step]) -> None:
        self.size = size
        self.saved = [0, *accumulate(step.saved for step in steps)]
        self.cost = [0, *accumulate(step.cost for step in steps)]

    def reached(self, room: int) -> int | None:
        """The cost of whole steps until they fit; None: they never do."""
        place = bisect_left(self.saved, self.size - room)
        return self.cost[place] if place < len(self.cost) else None

    def is_within(self, room: int, cost: int) -> bool:
        """Whether they may fit for `cost`."""
        need = self.size - room
        place = bisect_left(self.saved, need)
        if place in (0, len(self.saved)):
            return place == 0 and cost >= 0
        last = _Step(self.saved[place] - self.saved[place - 1], self.cost[place] - self.cost[place - 1])
        return (cost - self.cost[place - 1]) * last.saved >= (need - self.saved[place - 1]) * last.cost
