"""Keys of the original GhostNetV3, whose norms inside of branches are called `bn`; those of V1 and V2 are timm's."""

from __future__ import annotations

from ..table import Layout, Rule, Table, same
from .mmdet import GHOSTNET, GHOSTNET_HEADS, GHOSTNET_V3_NORM, GHOSTNET_V3_SIGNS

LAYOUT = Layout(
    "ghostnet",
    "the original GhostNetV3's",
    (
        Table(
            "GhostNetV3",
            (
                *GHOSTNET_V3_SIGNS,
                (GHOSTNET_V3_NORM[0], "blocks.0.0.ghost1.cheap_rpr_conv.0.bn.weight"),
            ),
            (Rule("blocks.{i}.{j}.{rest}.bn1.{p}", "blocks.{i}.{j}.{rest}.bn.{p}"), *same(*GHOSTNET)),
            heads=GHOSTNET_HEADS,
        ),
    ),
)
