#!/usr/bin/env python
"""Count which config files of OpenMMLab's packages load as they do in MMEngine, and how long both take.

A folder is an unpacked wheel (`pip download --no-deps mmdet==3.3.0`, then `unzip`): every `.py` file below a
`.mim/configs` in it is loaded by `backbone_kit.Config` and by `mmengine.Config` in turn, and the dicts are compared, a
leftover `_delete_` aside. Every file that is not the same is listed with the reason.

    python tools/count_openmmlab_configs.py mmdet/ mmsegmentation/ mmpretrain/
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine import Config as TheirConfig

from backbone_kit.config import Config
from backbone_kit.errors import ConfigError

OUTCOMES = ("same", "different", "ours only", "theirs only", "both refuse")


def load_ours(path: Path) -> dict[str, Any]:
    return Config.fromfile(path).to_dict()


def load_theirs(path: Path) -> dict[str, Any]:
    loaded = TheirConfig.fromfile(path, lazy_import=False, import_custom_modules=False)
    return loaded._cfg_dict.to_dict()


def timed(load: Callable[[Path], dict[str, Any]], path: Path) -> tuple[dict[str, Any] | None, str, float]:
    """What a loader gives, why it gives nothing, and the seconds it took."""
    start = time.perf_counter()
    try:
        value, reason = load(path), ""
    except ConfigError as error:
        value, reason = None, str(error)
    except Exception as error:
        value, reason = None, f"{type(error).__name__}: {error}"
    return value, reason, time.perf_counter() - start


def without_deletes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_deletes(item) for key, item in value.items() if key != "_delete_"}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_deletes, value))
    return value


def difference(ours: Any, theirs: Any, path: str = "") -> str:
    """The first place where two values differ, in type or in value; '' where they are the same."""
    if type(ours) is not type(theirs):
        return f"{path}: {ours!r:.60} is not {theirs!r:.60}"
    if isinstance(ours, dict):
        for key in ours.keys() ^ theirs.keys():
            return f"{path}.{key}: only {'ours' if key in ours else 'theirs'} has it"
        return next(filter(None, (difference(ours[key], theirs[key], f"{path}.{key}") for key in ours)), "")
    if isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            return f"{path}: {len(ours)} elements, not {len(theirs)}"
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(filter(None, (difference(mine, other, f"{path}[{i}]") for i, (mine, other) in pairs)), "")
    same = ours == theirs or (ours != ours and theirs != theirs)
    return "" if same else f"{path}: {ours!r:.60} is not {theirs!r:.60}"


def compare(path: Path, ours_first: bool) -> tuple[str, str, float, float]:
    """The outcome for one file, its reason, and the seconds of both."""
    loaders = [load_ours, load_theirs] if ours_first else [load_theirs, load_ours]
    results = {load: timed(load, path) for load in loaders}
    ours, our_reason, our_time = results[load_ours]
    theirs, their_reason, their_time = results[load_theirs]
    if ours is not None and theirs is not None:
        reason = difference(ours, without_deletes(theirs))
        return "different" if reason else "same", reason, our_time, their_time
    outcome = "both refuse" if ours is None and theirs is None else "theirs only" if ours is None else "ours only"
    return (
        outcome,
        " | ".join(filter(None, (our_reason, their_reason and f"mmengine: {their_reason}"))),
        our_time,
        their_time,
    )


def count(folder: Path) -> tuple[collections.Counter[str], list[str]]:
    """Prints the line of one package; the counts, and a line for each file that is not the same."""
    outcomes: collections.Counter[str] = collections.Counter()
    rest: list[str] = []
    our_time = their_time = 0.0
    files = sorted(path for path in folder.rglob("*.py") if "/.mim/configs/" in path.as_posix())
    for index, path in enumerate(files):
        # In turn, so that neither always finds the file in the system's cache.
        outcome, reason, ours, theirs = compare(path, index % 2 == 0)
        outcomes[outcome] += 1
        our_time, their_time = our_time + ours, their_time + theirs
        if outcome != "same":
            rest.append(f"{outcome}: {path}: {' '.join(reason.split())}")
    each = 1000 / max(len(files), 1)
    counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in OUTCOMES)
    print(
        f"{folder.name}: {len(files)} files: {counts};"
        f" {our_time * each:.2f} ms each, mmengine {their_time * each:.2f} ms"
    )
    return outcomes, rest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="an unpacked wheel")
    folders = parser.parse_args().folders
    # `mmdet::...` bases are looked for in the folders that are counted.
    sys.path[:0] = [str(folder.resolve()) for folder in folders]
    logging.disable(logging.CRITICAL)
    total: collections.Counter[str] = collections.Counter()
    rest: list[str] = []
    with warnings.catch_warnings(), contextlib.redirect_stderr(None):
        warnings.simplefilter("ignore")
        for folder in folders:
            outcomes, lines = count(folder)
            total += outcomes
            rest += lines
    print(f"all: {total.total()} files: {', '.join(f'{total[outcome]} {outcome}' for outcome in OUTCOMES)}")
    print(*rest, sep="\n")
    return 1 if total["different"] or total["theirs only"] else 0


if __name__ == "__main__":
    sys.exit(main())
