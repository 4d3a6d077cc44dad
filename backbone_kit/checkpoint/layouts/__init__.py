"""How libraries name weights. A layout is a module here with its tables; a family is one more table in each."""

from __future__ import annotations

from ...errors import CheckpointError, did_you_mean
from ..table import Layout
from . import caffe2, detectron2, ghostnet, mmdet, mmpretrain, timm, torchvision, transformers

LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.name: module.LAYOUT
    for module in (mmdet, torchvision, timm, mmpretrain, transformers, detectron2, caffe2, ghostnet)
}
"""By name. Where several account for the same keys, the first is meant: ours, then the simplest."""

SAME_AS = {"mmseg": "mmdet", "resnest": "timm"}
"""Other names: MMSegmentation's keys and the original ResNeSt's."""


def find_layout(name: str) -> Layout:
    """A layout by name.

    Raises:
        CheckpointError: There is none of that name.
    """
    layout = LAYOUTS.get(SAME_AS.get(name, name)) if isinstance(name, str) else None
    if layout is None:
        known = sorted({*LAYOUTS, *SAME_AS})
        raise CheckpointError(f"unknown layout {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}")
    return layout
