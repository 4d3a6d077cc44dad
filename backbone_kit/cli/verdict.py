"""One config file, built and run on the meta device: `Checker`."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..backbones import Backbone, build_backbone
from ..backbones.build import PLACES
from ..config import Config
from ..errors import ConfigError, Problem
from .parser import CommandError
from .prediction import report_on

SUFFIXES = (".py", ".yaml", ".yml", ".json")
INDEX_FILES = ("metafile.yml", "model-index.yml", "dataset-index.yml")  # OpenMMLab's lists beside its configs
SIDE = 224  # pixels; a size costs nothing on the meta device
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What became of one file.

    Attributes:
        file: Its path, as it was found.
        result: 'ok', 'failed' or 'no backbone'.
        backbone: What it names, '' where that is unknown.
        neck: What follows the backbone, '' for nothing.
        weights: The checkpoint it names, '' for none.
        problems: What is wrong, with place and fix, one line each.
    """

    file: str
    result: str
    backbone: str = ""
    neck: str = ""
    weights: str = ""
    problems: tuple[str, ...] = ()


def find_files(arguments: Iterable[str]) -> list[tuple[Path, bool]]:
    """The files that the arguments mean, each once, and whether it was named itself.

    Folders are searched to any depth, but for `_base_` folders, whose files are pieces, and hidden ones.
    """
    found: dict[Path, bool] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found.update(dict.fromkeys(_in_folder(path), False) | found)
        elif path.exists() or not glob.has_magic(argument):
            found[path] = True
        else:
            for match in sorted(map(Path, glob.glob(argument, recursive=True))):
                if match.suffix in SUFFIXES and match.is_file():
                    found.setdefault(match, False)
    return list(found.items())


def _in_folder(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        piece = any(part == "_base_" or part.startswith((".", "__")) for part in inner)
        if path.suffix in SUFFIXES and path.name not in INDEX_FILES and not piece and path.is_file():
            yield path


class Checker:
    """Checks files one after another; equal backbones are built and run once."""

    def __init__(self) -> None:
        self._channels: dict[str, tuple[int, ...]] = {}

    def check(self, path: Path, *, named: bool = True) -> Verdict:
        """Reads a file, builds its backbone and runs it.

        Args:
            path: The file.
            named: Whether a file without a backbone has failed; else it is taken for a piece of other configs.
        """
        words: dict[str, str] = {}
        place: Keys = ()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = Config.fromfile(path)
                place = next((p for p in reversed(PLACES) if isinstance(_get(config, p), Mapping)), ())
                if not place and "type" not in config and not named:
                    return Verdict(str(path), "no backbone")
                words = _words(config, place)
                channels = self._build(config, place)
            problems = check_neck(config, place, channels)
        except ConfigError as error:
            problems = list(error.problems)
        except CommandError as error:
            problems = [Problem(str(error), place, str(path))]
        except Exception as error:  # one broken file must not hide the others
            reason = str(error).strip().splitlines()
            problems = [Problem(f"{type(error).__name__}: {reason[0] if reason else 'no message'}")]
        return Verdict(str(path), "failed" if problems else "ok", **words, problems=tuple(map(str, problems)))

    def _build(self, config: Config, place: Keys) -> tuple[int, ...]:
        beside = {name: config.get(name) for name in ("default_scope", "custom_imports")}
        weights = _get(config, (*place[:-1], "pretrained")) if place else None
        key = repr((beside, weights, place, _get(config, place)))
        if key not in self._channels:
            with torch.device("meta"):
                net = build_backbone(config)
            _run(net)
            self._channels[key] = net.out_channels
        return self._channels[key]


def _run(net: Backbone) -> None:
    """One forward on the meta device.

    Raises:
        CommandError: It failed, and not for want of values, which only a real forward has.
    """
    side = -(-SIDE // net.size_divisibility) * net.size_divisibility
    try:
        report_on(net, (side, side))
    except CommandError as error:
        if "meta" not in str(error.__cause__).lower():
            raise


def check_neck(config: Mapping[str, Any], place: Keys, channels: tuple[int, ...]) -> list[Problem]:
    """Whether the neck beside the backbone takes what the backbone gives.

    Args:
        config: The whole config.
        place: Where the backbone is in it.
        channels: Of the backbone's outputs.
    """
    path, neck = _first_neck(config, place)
    given = neck.get("in_channels")
    if given is None or not place:
        return []
    source = getattr(neck, "source_of", lambda key: "")("in_channels")
    if not all(type(each) is int for each in (given if isinstance(given, (list, tuple)) else [given])):
        return [Problem(f"must be an int or a list of ints, got {given!r}", (*path, "in_channels"), source)]
    channels = channels[1:] if neck.get("type") == "RFP" else channels  # that one takes the picture beside the maps
    if isinstance(given, int):
        fits, wanted = given in channels, f"{channels[-1]}" if len(channels) == 1 else f"one of {list(channels)}"
    else:
        order = channels[::-1] if neck.get("type") == "YOLOV3Neck" else channels  # that one starts at the deepest
        fits, wanted = list(given) == list(order), f"{list(order)}"
    if fits:
        return []
    message = f"{given!r} does not fit the backbone, whose outputs have {list(channels)} channels; set it to {wanted}"
    return [Problem(message, (*path, "in_channels"), source)]


def _first_neck(config: Mapping[str, Any], place: Keys) -> tuple[tuple[str | int, ...], Mapping[str, Any]]:
    path: tuple[str | int, ...] = (*place[:-1], "neck")
    neck = _get(config, (*place[:-1], "neck"))
    if isinstance(neck, (list, tuple)) and neck:
        path, neck = (*path, 0), neck[0]
    return path, neck if isinstance(neck, Mapping) else {}


def _words(config: Mapping[str, Any], place: Keys) -> dict[str, str]:
    backbone: Mapping[str, Any] = _get(config, place)
    necks = _get(config, (*place[:-1], "neck")) if place else None
    necks = necks if isinstance(necks, (list, tuple)) else [necks]
    depth = backbone.get("depth", backbone.get("arch", ""))
    init = backbone.get("init_cfg")
    weights = init.get("checkpoint") if isinstance(init, Mapping) else None
    weights = weights or backbone.get("pretrained") or (place and _get(config, (*place[:-1], "pretrained")))
    return {
        "backbone": f"{_name(backbone)} {depth if isinstance(depth, (int, str)) else ''}".strip(),
        "neck": " + ".join(_name(neck) for neck in necks if isinstance(neck, Mapping)),
        "weights": weights if isinstance(weights, str) else "",
    }


def _name(node: Mapping[str, Any]) -> str:
    kind = node.get("type", "")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", repr(kind))


def _get(config: Any, path: Keys) -> Any:
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
