"""Whose keys a source has, where the backbone lies in it, and which key serves which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

from ..errors import CheckpointError
from .layouts import LAYOUTS, find_layout
from .rename import Reading, readings
from .table import View
from .words import few

AUTO = "auto"
OWN = "own"
HOUSE = "mmdet"
FOLLOWERS = {"encoder_k", "momentum_encoder", "ema", "ema_model", "model_ema"}
"""Copies of a net that follow it; the net itself is meant."""


@dataclass(frozen=True)
class Match:
    """One way to serve a model from a source.

    Attributes:
        layout: The layout of the source's keys; 'own': the model's names.
        prefix: What stands before the backbone's keys.
        sources: Key of the model to the key that serves it.
        views: Key of the model to the change of shape, where there is one.
        constants: Key of the model to the key beside it and the number that it holds, which the source leaves out.
        unexpected: Keys of the source that lie inside the backbone and serve nothing.
        left_aside: How many keys belong to other parts, by part.
    """

    layout: str
    prefix: str
    sources: dict[str, str]
    views: dict[str, View] = field(default_factory=dict)
    constants: dict[str, tuple[str, float]] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    left_aside: Mapping[str, int] = field(default_factory=dict)

    @property
    def served(self) -> int:
        """How many keys of the model have a value."""
        return len(self.sources) + len(self.constants)


def find_match(
    keys: Collection[str],
    own: Collection[str],
    layout: str = AUTO,
    prefix: str | None = None,
    roots: Collection[str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Match:
    """The match that serves most keys of the model, and of those the one that leaves fewest over.

    Args:
        keys: Keys of the source.
        own: Keys of the model.
        layout: A layout, or 'auto'.
        prefix: What stands before the backbone's keys; None: found out.
        roots: The modules that make up the model: what lies in them and serves nothing is unexpected. None: whatever
            has a key of the model's.
        aliases: Key of the model to its name in files of the library that the net is from, where that is another.

    Raises:
        CheckpointError: The layout is unknown, or two parts of the source serve equally well.
    """
    keys = dict.fromkeys(keys).keys()  # looked up often, and in order
    roots = {key.partition(".")[0] for key in own} if roots is None else roots
    matches = list(_own_matches(keys, own, prefix, roots)) if layout in (AUTO, HOUSE) else []
    matches += _alias_matches(keys, own, aliases or {}, prefix)
    if not any(match.served == len(own) and not match.unexpected for match in matches):
        layouts = LAYOUTS.values() if layout == AUTO else [find_layout(layout)]
        matches += [_table_match(reading, own, roots) for reading in readings(keys, layouts, prefix, own)]
    matches = [match for match in matches if match.served]
    if not matches:
        return Match(OWN, prefix or "", {}, left_aside=_parts(keys, "", ()))
    top = max(map(_rank, matches))
    best = [match for match in matches if _rank(match) == top]
    starts = {match.prefix for match in best if match.layout == best[0].layout}
    if len(starts) > 1:
        raise CheckpointError(f"has the model's keys under {few(sorted(map(repr, starts)))}; pass prefix='...'")
    return best[0]


def _rank(match: Match) -> tuple[int, int, bool]:
    followers = not FOLLOWERS.isdisjoint(match.prefix.split("."))
    return match.served, -len(match.unexpected), not followers


def _own_matches(
    keys: Collection[str], own: Collection[str], prefix: str | None, roots: Collection[str]
) -> Iterator[Match]:
    """The model's own names, behind whatever serves most of them."""
    starts = [prefix] if prefix is not None else _starts(keys, own)
    served = {start: sum(start + key in keys for key in own) for start in starts}
    for start in served:
        if served[start] == max(served.values()):
            names = {key: _moved(key[len(start) :], own) for key in keys if key.startswith(start)}
            rest = [key for key in keys if not key.startswith(start)]
            yield _match(OWN, start, names, rest, own, roots)


def _alias_matches(
    keys: Collection[str], own: Collection[str], aliases: Mapping[str, str], prefix: str | None
) -> Iterator[Match]:
    """As `_own_matches`, by other names."""
    ours = {aliases.get(key, key): key for key in own} if aliases else {}
    for match in _own_matches(keys, ours, prefix, {name.partition(".")[0] for name in ours}) if ours else ():
        yield replace(match, sources={ours[name]: source for name, source in match.sources.items()})


def _starts(keys: Collection[str], own: Collection[str]) -> list[str]:
    """What stands before most of some keys, taken from all over the net."""
    some = list(own)[:: max(1, len(own) // 16)]
    votes = Counter(key[: -len(k)] for k in some for key in keys if key.endswith(k))
    votes = Counter({start: n for start, n in votes.items() if not start or start.endswith(".")})
    return sorted(start for start, n in votes.items() if n == max(votes.values()))


def _moved(key: str, own: Collection[str]) -> str:
    """Offsets of a deformable convolution, which mmcv before 1.0 had beside it (`conv2_offset`), in their place."""
    layer, _, rest = key.rpartition("_offset.")
    new = f"{layer}.conv_offset.{rest}"
    return new if key not in own and new in own else key


def _table_match(reading: Reading, own: Collection[str], roots: Collection[str]) -> Match:
    wanted = {key: name for key, name in reading.heads.items() if name in own}  # a last norm that the model has too
    match = _match(reading.layout.name, reading.prefix, {**reading.names, **wanted}, reading.rest, own, roots)
    views = ((name, reading.rules[key].view) for name, key in match.sources.items())
    match.views.update((name, view) for name, view in views if view is not None)
    match.constants.update((name, c) for name, c in reading.constants.items() if name in own and c[0] in match.sources)
    aside = Counter(
        reading.rules[key].theirs.partition("{")[0].rstrip("._") for key in reading.heads if key not in wanted
    )
    return replace(match, left_aside={**match.left_aside, **aside})


def _match(
    layout: str,
    prefix: str,
    names: Mapping[str, str],
    rest: Iterable[str],
    own: Collection[str],
    roots: Collection[str],
) -> Match:
    """Who serves whom, by the names that keys have here and what has no name."""
    sources = {name: key for key, name in names.items() if name in own}
    their_tops = {key[len(prefix) :].partition(".")[0] for key in sources.values()}
    unexpected: list[str] = []
    aside: list[str] = []
    for key, name in names.items():
        if name not in own:
            (unexpected if _within(name, roots) else aside).append(key)
    for key in rest:
        inside = key.startswith(prefix) and key[len(prefix) :].partition(".")[0] in their_tops
        (unexpected if inside else aside).append(key)
    return Match(layout, prefix, sources, unexpected=tuple(unexpected), left_aside=_parts(aside, prefix, roots))


def _within(name: str, roots: Collection[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _parts(keys: Iterable[str], prefix: str, roots: Collection[str]) -> dict[str, int]:
    """How many keys each part has: the first name behind what it shares with the backbone, two within a container.

    Of a name without dots, the first word counts: MMDetection 2's averages are called `ema_backbone_conv1_weight`, ….
    """
    shared = prefix.split(".")[:-1]
    containers = {root.partition(".")[0] for root in roots if "." in root}
    parts: Counter[str] = Counter()
    for key in keys:
        words = key.split(".")
        common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(words[:-1], shared))))
        length = 2 if common == len(shared) and words[common] in containers else 1
        part = ".".join(words[common : common + length])
        parts[part.partition("_")[0] if common + length >= len(words) else part] += 1
    return dict(parts)
