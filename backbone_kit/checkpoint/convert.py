"""State dicts from one library's layout to another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import CheckpointError
from .layouts import LAYOUTS, find_layout
from .norms import neutral
from .rename import Reading, read, readings, write
from .table import Layout
from .words import few

AUTO = "auto"


def detect_layout(state_dict: Mapping[str, Tensor]) -> str:
    """The name of the layout that a state dict's keys have, whatever stands before them.

    Libraries name many nets alike. The layout is then the first of those that account for as many keys: 'mmdet' for a
    plain ResNet's keys, 'torchvision' with `fc.weight` beside them.

    Raises:
        CheckpointError: None of the layouts here has such keys, or two parts of the file have them.

    Examples:
        >>> import torch
        >>> detect_layout(dict.fromkeys(['stem.conv1.weight', 'stem.conv1.norm.weight'], torch.zeros(8)))
        'detectron2'
    """
    return find_reading(state_dict).layout.name


def find_reading(state_dict: Mapping[str, Tensor], source: str = AUTO, prefix: str | None = None) -> Reading:
    """The reading that accounts for most keys of a state dict.

    Raises:
        CheckpointError: There is none, or two parts of the file are read alike.
    """
    layouts = list(LAYOUTS.values()) if source == AUTO else [find_layout(source)]
    found = [reading for reading in readings(state_dict.keys(), layouts, prefix) if _knows_most(reading, state_dict)]
    if not found:
        place = "" if prefix is None else f" under {prefix!r}"
        whose = "any layout here" if source == AUTO else f"{layouts[0].name}'s layout"
        raise CheckpointError(f"has no keys of {whose}{place}, only: {few(list(state_dict))}")
    most = max(map(_rank, found))
    best = [reading for reading in found if _rank(reading) == most]
    starts = {reading.prefix for reading in best}
    if len(starts) > 1:
        raise CheckpointError(f"has a backbone's keys under {few(sorted(map(repr, starts)))}; pass prefix='...'")
    return best[0]


def _knows_most(reading: Reading, keys: Iterable[str]) -> bool:
    """Whether most keys behind the prefix have names; some are the same in nets that have nothing to do with it."""
    return 2 * len(reading.names) > sum(key.startswith(reading.prefix) for key in keys) - len(reading.heads)


def _rank(reading: Reading) -> tuple[int, bool]:
    return reading.accounted, not reading.table.borrowed


def convert_state_dict(
    state_dict: Mapping[str, Tensor], source: str = AUTO, target: str = "mmdet", prefix: str | None = None
) -> dict[str, Tensor]:
    """The same weights under another library's names. Nothing is lost: converted back, every key and value returns.

    Keys alone do not tell two things, of which the usual one is taken: norms without statistics are GroupNorms, and the
    last norm of a ConvNeXt stands in timm's head, not before it.

    Args:
        state_dict: Weights of a backbone, with or without its classifier. A prefix that all keys share, such as
            'module.', is left out of the result.
        source: The layout of the keys; 'auto': found out.
        target: The layout of the result: 'mmdet' is this library's own.
        prefix: Take only the keys behind this, such as 'backbone.' of a whole detector; None: all keys.

    Returns:
        The same tensors, not copies.

    Raises:
        CheckpointError: A layout is unknown; or a key has no name in one of them, or would not come back.
    """
    wanted = find_layout(target)
    if prefix:
        prefix = prefix if prefix.endswith(".") else f"{prefix}."
        state_dict = {key: value for key, value in state_dict.items() if key.startswith(prefix)}
    reading = find_reading(state_dict, source)
    name = reading.layout.name
    if reading.rest:
        where = f"; pass prefix={reading.prefix!r} to take the backbone alone" if reading.prefix else ""
        raise CheckpointError(
            f"{few(list(reading.rest))}: no such {'key' if len(reading.rest) == 1 else 'keys'} in {name}'s layout of a "
            f"{reading.table.family}; leave out what is not to be converted{where}"
        )
    ours = reading.tensors(state_dict)
    start = reading.prefix.removesuffix(reading.layout.wrapper) if reading.heads else reading.prefix
    again = set(write(ours, reading.layout, reading.table)[0])
    reason = _changed({key.removeprefix(start) for key in state_dict}, again, reading.layout)
    if reason:
        raise CheckpointError(reason)
    if wanted is reading.layout:
        return {key.removeprefix(start): value for key, value in state_dict.items()}
    return _written(ours, wanted)


def _written(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our keys in a layout, with the first table of it that holds all and gives all back."""
    present = set(map(neutral, ours))
    reasons = []
    for table in layout.tables:
        if not all(key in present for key, _ in table.signs) or (table.fits is not None and not table.fits(ours)):
            continue
        theirs, rest = write(ours, layout, table)
        if rest:
            reasons.append(
                (len(rest), f"{layout.name}'s layout has no name for {few(rest)}; leave out what it cannot hold")
            )
            continue
        wrapper = layout.wrapper if next(iter(theirs)).startswith(layout.wrapper) else ""
        back = read(theirs, layout, table, wrapper)
        reason = _changed(set(ours), {*back.names.values(), *back.heads.values(), *back.constants}, layout)
        if not reason:
            return theirs
        reasons.append((0, reason))
    if not reasons:
        raise CheckpointError(f"{layout.name}'s layout has no names for this net, whose keys are: {few(list(ours))}")
    raise CheckpointError(min(reasons)[1])


def _changed(before: set[str], after: set[str], layout: Layout) -> str:
    """What a layout would give back otherwise, '' for nothing."""
    lost, new = sorted(before - after), sorted(after - before)
    return f"{few(lost)} would come back from {layout.name}'s layout as {few(new) or 'nothing'}" if lost or new else ""
