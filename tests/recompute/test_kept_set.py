"""What is kept is the least that suffices, and the cheapest that fits, found by trying everything."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest

from backbone_kit.recompute.budget import Choice, cheapest, choices
from backbone_kit.recompute.kept_set import Node, Problem, kept_set, made_again


def some_problem(seed: int, values: int = 8) -> Problem:
    """A unit with a few convolutions, something overwritten, something random."""
    draw = random.Random(seed)
    nodes = []
    for index in range(values):
        kind = draw.choice(["cheap", "cheap", "cheap", "weighted", "product", "fixed"])
        is_needed = draw.random() < 0.4
        node = Node(
            size=None if draw.random() < 0.2 and not is_needed else draw.randint(1, 9),
            inputs=tuple(i for i in range(index) if draw.random() < 0.35),
            is_needed=is_needed,
            is_fixed=kind == "fixed",
            macs=draw.randint(1, 20) if kind in ("weighted", "product") else 0,
            has_weight=kind == "weighted",
        )
        nodes.append(node)
    return tuple(nodes)


def products_of(problem: Problem) -> list[int]:
    return [index for index, node in enumerate(problem) if node.macs and not node.is_fixed]


def all_ways(problem: Problem) -> dict[frozenset[int], tuple[int, int, set[int]]]:
    """For every set that can be kept and suffices: its bytes, the MACs that run again, and whose they are."""
    found = {}
    free = [index for index, node in enumerate(problem) if node.size is not None]
    for number in range(len(free) + 1):
        for kept in map(frozenset, combinations(free, number)):
            made = made_again(problem, kept)
            if any(problem[index].is_fixed for index in made):
                continue
            again = {index for index in made if problem[index].macs}
            size = sum(problem[index].size or 0 for index in kept)
            found[kept] = size, sum(problem[index].macs for index in again), again
    return found


def subsets(items: list[int]) -> list[frozenset[int]]:
    return [frozenset(some) for number in range(len(items) + 1) for some in combinations(items, number)]


@pytest.mark.parametrize("seed", range(60))
def test_no_smaller_set_suffices(seed: int) -> None:
    problem = some_problem(seed)
    ways = all_ways(problem)
    for again in subsets(products_of(problem)):
        least = min(size for size, _, used in ways.values() if used <= again)
        size, _, used = ways[kept_set(problem, again)]
        assert size == least
        assert used <= again
    assert kept_set(problem, None) == {index for index, node in enumerate(problem) if node.is_needed}


def test_of_two_sets_as_small_the_later_values_are_kept() -> None:
    convolution, activation = Node(8, macs=5, has_weight=True), Node(8, (0,), is_needed=True)
    assert kept_set((convolution, activation), frozenset()) == {1}


@pytest.mark.parametrize("seed", range(12))
def test_a_budget_takes_the_fewest_macs_of_all_that_fit(seed: int) -> None:
    problems = [some_problem(3 * seed + i, values=6) for i in range(3)]
    units = [choices(problem) for problem in problems]
    ways = [list({way[:2] for way in all_ways(problem).values()}) for problem in problems]
    totals = [(sum(w[0] for w in several), sum(w[1] for w in several)) for several in product(*ways)]
    for room in {size for size, _ in totals} | {min(totals)[0] - 1}:
        best = min((macs for size, macs in totals if size <= room), default=None)
        chosen = cheapest(units, room)
        assert (chosen is None) is (best is None)
        if chosen is not None:
            assert sum(choice.size for choice in chosen) <= room
            assert sum(choice.macs for choice in chosen) == best


@pytest.mark.parametrize("seed", range(10))
def test_bounds_do_not_lose_the_cheapest(seed: int) -> None:
    draw = random.Random(seed)
    units = []
    for _ in range(6):
        sizes = sorted(draw.sample(range(100), 4), reverse=True)
        costs = [0, *sorted(draw.sample(range(1, 60), 3))]
        units.append([Choice(size, cost, None) for size, cost in zip(sizes, costs)])
    totals = [(sum(c.size for c in several), sum(c.cost for c in several)) for several in product(*units)]
    for room in range(0, 500, 23):
        best = min((cost for size, cost in totals if size <= room), default=None)
        chosen = cheapest(units, room)
        assert best == (None if chosen is None else sum(choice.cost for choice in chosen))


def test_many_products_run_again_in_groups_and_all_of_them_at_last() -> None:
    chain = tuple(Node(2, (i - 1,) if i else (), is_needed=True, macs=3, has_weight=True) for i in range(20))
    found = choices(chain)
    assert (found[0].size, found[0].macs) == (40, 0)
    assert (found[-1].size, found[-1].macs) == (0, 60)
