"""What is known of weights that have a name: where they are, whose names they have, and what pictures they expect."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import CheckpointError, did_you_mean
from .download import fetch, kept_at, named_hash
from .preprocessing import ChannelOrder, Preprocessing

FOLDER = Path(__file__).parent / "entries"
SAME_AS = {"openmmlab": "open-mmlab", "modelzoo": "torchvision", "mmpretrain": "mmcls"}
"""Other names of schemes."""

HUB = "https://huggingface.co"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""What repositories on huggingface.co call their weights."""


@dataclass(frozen=True)
class WeightEntry:
    """Weights by name. What is not known is None.

    Attributes:
        name: Scheme and name, such as 'torchvision://resnet50.IMAGENET1K_V1'.
        url: Where the file is.
        mirrors: Where else.
        sha256: The file's hash, or what it starts with.
        layout: Whose names its keys are.
        mean: Of each channel, in `channel_order`; subtracted from pictures whose largest value is `range`.
        std: Of each channel; what is left is divided by it.
        channel_order: 'RGB' or 'BGR'.
        range: Largest value of a picture, before its mean is subtracted: 1 or 255.
        style: Which convolution of a bottleneck has the stride: the 3x3 ('pytorch') or the first 1x1 ('caffe').
        fused_bn: Whether BatchNorm's statistics are fused into its scale and shift: mean 0 and variance 1 are left.
        licence: Of the weights.
        source: Who made them.
        metrics: What they reach: by data set, percentages by metric.
    """

    name: str
    url: str
    mirrors: tuple[str, ...] = ()
    sha256: str | None = None
    layout: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    channel_order: ChannelOrder | None = None
    range: Literal[1, 255] | None = None
    style: Literal["pytorch", "caffe"] | None = None
    fused_bn: bool | None = None
    licence: str | None = None
    source: str | None = None
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is done to pictures for these weights; None where it is not all known."""
        if self.mean is None or self.std is None or self.channel_order is None or self.range is None:
            return None
        return Preprocessing(self.mean, self.std, self.channel_order, self.range)


def fetch_entry(entry: WeightEntry) -> Path:
    """The file of weights that have a name, from the first of its places that has it.

    `HF_ENDPOINT` names a mirror of huggingface.co, as it does for the Hub's own library.

    Raises:
        CheckpointError: No place has it.
    """
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    urls = [f"{hub}{url.removeprefix(HUB)}" if url.startswith(HUB) else url for url in (entry.url, *entry.mirrors)]
    there = next((url for url in urls if kept_at(url).is_file()), None)
    problems = []
    for url in [there] if there else urls:
        try:
            return fetch(url, entry.sha256 if url == entry.url else None)
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError(f"{entry.name}: cannot be fetched: {'; '.join(problems)}")


def schemes() -> tuple[str, ...]:
    """The schemes whose names stand in a table here, and the one that needs none."""
    return (*sorted(path.stem for path in FOLDER.glob("*.yaml")), "hf")


def find_entry(source: str) -> WeightEntry:
    """What is known of `scheme://name`.

    Of a model's several weights (`resnet50.a1_in1k`, `resnet50.tv_in1k`), the model's name alone means the first.
    Where timm is installed, `timm://` knows all of its weights.

    Raises:
        CheckpointError: The scheme or the name is unknown, and the message has the nearest.

    Examples:
        >>> find_entry('open-mmlab://detectron2/resnet50_caffe').style
        'caffe'
    """
    scheme, _, name = source.partition("://")
    scheme = SAME_AS.get(scheme, scheme)
    if scheme == "hf":
        return _on_the_hub(name)
    if scheme not in schemes():
        known = (*schemes(), *SAME_AS, "https", "http")
        near = did_you_mean(scheme, known) or f"; known: {', '.join(known)}"
        raise CheckpointError(f"{source}: unknown scheme {scheme!r}{near}")
    table = _table(scheme)
    found = _named(name, table) or (_from_timm(name) if scheme == "timm" else None)
    if found is None:
        more = "; those of other models are known where timm is installed" if scheme == "timm" else ""
        raise CheckpointError(f"{source}: unknown name {name!r}{did_you_mean(name, table) or more}")
    return found


def _named(name: str, table: Mapping[str, WeightEntry]) -> WeightEntry | None:
    wanted = name.lower().replace("_weights.", ".")  # torchvision's classes, as mmengine names them
    exact = next((entry for key, entry in table.items() if key.lower() == wanted), None)
    return exact or next((entry for key, entry in table.items() if key.lower().startswith(f"{wanted}.")), None)


@lru_cache
def _table(scheme: str) -> dict[str, WeightEntry]:
    """The entries of a scheme by name."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load((FOLDER / f"{scheme}.yaml").read_text("utf-8"), loader)
    entries = {
        name: _entry(f"{scheme}://{name}", {**content.get("shared", {}), **values})
        for name, values in content["names"].items()
    }
    renamed: Mapping[str, str] = content.get("renamed", {})
    return entries | {old: entries[new] for old, new in renamed.items() if new in entries}


def _entry(name: str, values: Mapping[str, Any]) -> WeightEntry:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    hub = values.pop("hub", name.replace("://", "/") if name.startswith("timm://") else None)
    file = values.pop("file", None)
    if hub:
        first = _hub_urls(hub, files=(file,) if file else HUB_FILES)
        mirrors = (*first, *([values["url"]] if "url" in values else []))
        values |= {"url": mirrors[0], "mirrors": mirrors[1:]}
    values.setdefault("sha256", named_hash(values["url"]))
    return WeightEntry(name, **values)


def _hub_urls(repository: str, revision: str = "main", files: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(f"{HUB}/{repository}/resolve/{revision}/{file}" for file in files)


def _on_the_hub(name: str) -> WeightEntry:
    """`org/repo`, `org/repo@revision` or `org/repo/file` on huggingface.co."""
    part = r"[\w-][\w.-]*"
    found = re.fullmatch(rf"({part}/{part})(?:@({part}))?(?:/({part}(?:/{part})*))?", name)
    if not found:
        raise CheckpointError(f"hf://{name}: must be hf://org/repo, hf://org/repo@revision or hf://org/repo/file")
    repository, revision, file = found.groups()
    known = _named(repository.removeprefix("timm/"), _table("timm")) if repository.startswith("timm/") else None
    if known and not revision and not file:
        return known
    first, *mirrors = _hub_urls(repository, revision or "main", (file,) if file else HUB_FILES)
    return WeightEntry(f"hf://{name}", first, tuple(mirrors))


def _from_timm(name: str) -> WeightEntry | None:
    """What the installed timm says of weights that have no entry here."""
    try:
        from timm.models import get_pretrained_cfg
    except ImportError:
        return None
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError:  # its word for an unknown name
        return None
    if cfg is None or not cfg.has_weights:
        return None
    values = {
        "layout": "timm",
        "mean": cfg.mean,
        "std": cfg.std,
        "channel_order": "RGB",
        "range": 1,
        "licence": cfg.license,
        "source": cfg.origin_url,
        "hub": cfg.hf_hub_id,
        "file": cfg.hf_hub_filename,
    }
    return _entry(f"timm://{cfg.architecture}.{cfg.tag}", {**values, **({"url": cfg.url} if cfg.url else {})})
