"""Numbers of channels that suit the hardware."""

from __future__ import annotations

from .ranges import check_positive


def make_divisible(value: float, divisor: int = 8, round_limit: float = 0.9) -> int:
    """The multiple of `divisor` nearest to `value`, at least one of them.

    Args:
        value: A number of channels, perhaps a fraction.
        divisor: What the result is a multiple of.
        round_limit: The next multiple is taken where the nearest is less than this part of `value`.

    Source: Sandler et al., MobileNetV2, arXiv 1801.04381, in the authors' code.

    Examples:
        >>> make_divisible(20), make_divisible(18), make_divisible(18, round_limit=0), make_divisible(1)
        (24, 24, 16, 8)
    """
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < round_limit * value else nearest


def reduced_channels(
    channels: int, rd_ratio: float, rd_channels: int | None, rd_divisor: int, round_limit: float = 0.9
) -> int:
    """The channels inside of an attention, by timm's three arguments.

    Args:
        channels: Channels of the map.
        rd_ratio: The channels inside over those, before they are rounded.
        rd_channels: The channels inside; None: what the others say.
        rd_divisor: What they are rounded to a multiple of.
        round_limit: As in `make_divisible`.

    Raises:
        ConfigError: An argument is not positive.
    """
    check_positive(rd_ratio=rd_ratio, rd_channels=rd_channels, rd_divisor=rd_divisor)
    return make_divisible(channels * rd_ratio, rd_divisor, round_limit) if rd_channels is None else rd_channels
