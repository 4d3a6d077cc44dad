"""detectron2's keys: norms belong to their convolution, stages count from `res2`."""

from __future__ import annotations

from ..table import Layout, Rule, Table

IN_BLOCK = "res{s+1}.{j}."
BLOCK = (
    Rule("layer{s}.{j}.conv2.conv_offset.{p}", IN_BLOCK + "conv2_offset.{p}"),
    Rule("layer{s}.{j}.conv2.conv.conv_offset.{p}", IN_BLOCK + "conv2_offset.{p}"),
    Rule("layer{s}.{j}.conv{i}.{p}", IN_BLOCK + "conv{i}.{p}"),
    Rule("layer{s}.{j}.bn{i}.{p}", IN_BLOCK + "conv{i}.norm.{p}"),
)
SPLIT_ATTENTION = (
    BLOCK[1],
    *BLOCK[2:],
    Rule("layer{s}.{j}.conv2.conv.{p}", IN_BLOCK + "conv2.conv.{p}"),
    Rule("layer{s}.{j}.conv2.bn{i}.{p}", IN_BLOCK + "conv2.bn{i}.{p}"),
    Rule("layer{s}.{j}.conv2.fc{i}.{p}", IN_BLOCK + "conv2.fc{i}.{p}"),
)
HEADS = (Rule("fc.{p}", "linear.{p}"),)


def _shortcut(conv: int) -> tuple[Rule, ...]:
    """The shortcut, whose convolution is the module of that number here: 1 behind a pool, 0 without."""
    ours = "layer{s}.{j}.downsample."
    return (
        Rule(f"{ours}{conv}.{{p}}", IN_BLOCK + "shortcut.{p}"),
        Rule(f"{ours}{conv + 1}.{{p}}", IN_BLOCK + "shortcut.norm.{p}"),
    )


def _deep_stem(name: str) -> tuple[Rule, ...]:
    """Three convolutions; `name` has the place of their number."""
    rules = []
    for number in range(3):
        theirs = "stem." + name.format(number + 1)
        rules += [Rule(f"stem.{3 * number}.{{p}}", theirs + ".{p}")]
        rules += [Rule(f"stem.{3 * number + 1}.{{p}}", theirs + ".norm.{p}")]
    return tuple(rules)


LAYOUT = Layout(
    "detectron2",
    "detectron2's",
    (
        Table(
            "ResNet",
            (("conv1.weight", "stem.conv1.weight"),),
            (
                Rule("conv1.{p}", "stem.conv1.{p}"),
                Rule("bn1.{p}", "stem.conv1.norm.{p}"),
                BLOCK[0],
                *BLOCK[2:],
                *_shortcut(0),
            ),
            heads=HEADS,
        ),
        Table(
            "ResNeSt",
            (("stem.0.weight", "stem.conv1_1.weight"), ("layer1.0.conv2.fc1.weight", "res2.0.conv2.fc1.weight")),
            (*_deep_stem("conv1_{}"), *SPLIT_ATTENTION, *_shortcut(1)),
            heads=HEADS,
        ),
        Table(
            "ResNet with DeepLab's stem",
            (("stem.0.weight", "stem.conv1.weight"), ("stem.3.weight", "stem.conv2.weight")),
            (*_deep_stem("conv{}"), BLOCK[0], *BLOCK[2:], *_shortcut(0)),
            heads=HEADS,
        ),
    ),
)
