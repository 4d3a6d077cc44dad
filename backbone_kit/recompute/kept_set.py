"""Which values of a unit to keep for backward: the fewest bytes from which all that is saved can be made again.

A minimum cut. Each value is an edge as wide as its bytes are many; values that cannot be made again hang on the source,
values that backward asks for hang on the sink, and what is cut is kept.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import NamedTuple

_INFINITE = 1 << 62


class Node(NamedTuple):
    """A value of a unit.

    Attributes:
        size: Bytes that it takes to keep it; None: it was overwritten.
        inputs: Values of the same unit that it is made from, which stand before it; others are there anyway.
        is_needed: Whether backward, or another unit, asks for it.
        is_fixed: Whether it can never be made again.
        macs: Multiply-accumulates of a product that makes it; 0: it is cheap.
        has_weight: Whether that product is a convolution or a linear layer.
    """

    size: int | None
    inputs: tuple[int, ...] = ()
    is_needed: bool = False
    is_fixed: bool = False
    macs: int = 0
    has_weight: bool = False


Problem = tuple[Node, ...]


@lru_cache(maxsize=4096)
def kept_set(problem: Problem, again: frozenset[int] | None) -> frozenset[int]:
    """The values to keep; of two sets with as many bytes, the one that leaves less to make again.

    Args:
        problem: The unit's values, each behind its inputs.
        again: The products that may run again; None: nothing does, and what is needed is kept.
    """
    if again is None:
        return frozenset(index for index, node in enumerate(problem) if node.is_needed)
    source, sink = 2 * len(problem), 2 * len(problem) + 1
    width: list[dict[int, int]] = [{} for _ in range(sink + 1)]

    def join(start: int, end: int, size: int) -> None:
        width[start][end] = size
        width[end].setdefault(start, 0)

    for index, node in enumerate(problem):
        made, had = 2 * index, 2 * index + 1
        join(made, had, _INFINITE if node.size is None else node.size)
        for other in node.inputs:
            join(2 * other + 1, made, _INFINITE)
        if node.is_fixed or (node.macs and index not in again):
            join(source, made, _INFINITE)
        if node.is_needed:
            join(had, sink, _INFINITE)
    before = _search(width, source)
    while sink in before:
        path = [sink]
        while path[-1] != source:
            path.append(before[path[-1]])
        steps = list(zip(path[1:], path))
        flow = min(width[start][end] for start, end in steps)
        assert flow < _INFINITE, "a value that is needed can neither be kept nor be made again"
        for start, end in steps:
            width[start][end] -= flow
            width[end][start] += flow
        before = _search(width, source)
    backward = [{start: width[start][end] for start in ends} for end, ends in enumerate(width)]
    asked = _search(backward, sink)
    return frozenset(i for i, node in enumerate(problem) if 2 * i + 1 in asked and 2 * i not in asked)


def made_again(problem: Problem, kept: frozenset[int]) -> set[int]:
    """The values that are made again in backward, each once."""
    found: set[int] = set()
    asked = [index for index, node in enumerate(problem) if node.is_needed]
    while asked:
        index = asked.pop()
        if index not in kept and index not in found:
            found.add(index)
            asked.extend(problem[index].inputs)
    return found


def _search(width: list[dict[int, int]], start: int) -> dict[int, int]:
    """What can be reached from `start`, breadth first, with the place before each."""
    before = {start: start}
    queue = deque([start])
    while queue:
        place = queue.popleft()
        for end, size in width[place].items():
            if size and end not in before:
                before[end] = place
                queue.append(end)
    return before
