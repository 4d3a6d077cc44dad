"""mmpretrain's keys: MMDetection's, but for deep stems, and for shortcuts with a pool.

There, a shortcut has its pool only where it has a stride: the first stage has none, nor has a dilated one, and their
convolutions come first. Weights do not tell which stages are dilated; the names in a file do.
"""

from __future__ import annotations

from itertools import product

from ..table import Layout, Rule, Table, same
from .mmdet import ADDED, BLOCK, CONVNEXT, CONVNEXT_SIGNS, HRNET, HRNET_HEADS, HRNET_SIGNS, IN_BLOCK, STEM, VGG_HEADS

HEADS = (Rule("fc.{p}", "head.fc.{p}"),)
LAYERS = tuple(name for name in (*BLOCK, *ADDED) if not name.startswith("downsample"))
PLAIN = same(*STEM)
DEEP = tuple(
    Rule(f"stem.{3 * number + place}.{{p}}", f"stem.{number}.{name}.{{p}}")
    for number in range(3)
    for place, name in enumerate(("conv", "bn"))
)
DEEP_SIGN = ("stem.0.weight", "stem.0.conv.weight")
PLAIN_SIGN = ("conv1.weight", "conv1.weight")
BLOCK_SIGN = ("layer1.0.conv1.weight", "layer1.0.conv1.weight")
POOL_SIGN = ("layer2.0.downsample.2.weight", "layer2.0.downsample.2.weight")
WITHOUT_POOL = ((1,), (1, 4), (1, 3, 4))
"""Stages without a stride: as they are by default, with one dilated stage, with two."""


def _pooled(stages: tuple[int, ...]) -> tuple[Rule, ...]:
    """Shortcuts with a pool, but in these stages."""
    rules = []
    for stage, place in product(range(1, 5), (1, 2)):
        start = f"layer{stage}.{{j}}.downsample."
        rules.append(Rule(f"{start}{place}.{{p}}", f"{start}{place - (stage in stages)}.{{p}}"))
    return tuple(rules)


VGG_CONVS = ((1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4))
"""Convolutions of each stage of VGG-11, 13, 16 and 19."""


def _vgg(convs: tuple[int, ...], norm: bool) -> Table:
    """Layers are counted through; there, a convolution with its norm and activation is one."""
    rules: list[Rule] = []
    ours = theirs = 0
    for count in convs:
        for _ in range(count):
            rules.append(Rule(f"features.{ours}.{{p}}", f"features.{theirs}.conv.{{p}}"))
            if norm:
                rules.append(Rule(f"features.{ours + 1}.{{p}}", f"features.{theirs}.bn.{{p}}"))
            ours, theirs = ours + 2 + norm, theirs + 1
        ours, theirs = ours + 1, theirs + 1  # the pool
    signs = [(rule.ours.format(p="weight"), rule.theirs.format(p="weight")) for rule in (rules[0], rules[-1])]
    return Table(f"VGG-{3 + sum(convs)}", tuple(signs), (*rules, *VGG_HEADS))


LAYOUT = Layout(
    "mmpretrain",
    "mmpretrain's",
    (
        *(
            Table(
                "ResNet-D",
                (stem_sign, BLOCK_SIGN, POOL_SIGN),
                (*stem, *_pooled(stages), *same(*LAYERS, at=IN_BLOCK)),
                heads=HEADS,
            )
            for stages in WITHOUT_POOL
            for stem_sign, stem in ((DEEP_SIGN, DEEP), (PLAIN_SIGN, PLAIN))
        ),
        Table(
            "ResNet with a deep stem",
            (DEEP_SIGN, BLOCK_SIGN),
            (*DEEP, *same(*BLOCK, *ADDED, at=IN_BLOCK)),
            heads=HEADS,
        ),
        Table("ResNet", (PLAIN_SIGN, BLOCK_SIGN), (*PLAIN, *same(*BLOCK, *ADDED, at=IN_BLOCK)), heads=HEADS),
        Table("HRNet", HRNET_SIGNS, same(*HRNET) + same(*BLOCK, *ADDED, at=IN_BLOCK), heads=HRNET_HEADS),
        *(_vgg(convs, norm) for convs in VGG_CONVS for norm in (True, False)),
        Table("ConvNeXt", CONVNEXT_SIGNS, same(*CONVNEXT), heads=HEADS),
    ),
    wrapper="backbone.",
    norms_by_type=True,
)
