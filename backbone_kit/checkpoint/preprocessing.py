"""What is done to pictures before a net sees them, and how its first convolution can do a part of it.

A pixel x becomes (x - mean) / std, channel by channel. Weights that were trained on pictures prepared in one way give
the same maps for pictures prepared in another, if the first convolution makes up for the difference: its input channels
change places for another order of channels, and are scaled for another std. Another mean is a constant beside each
weight, and moves into the bias; but a convolution that pads with zeros says with them 'the mean', and would say it of
another one at the borders, so that there the mean cannot be moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

ChannelOrder = Literal["RGB", "BGR"]
_NEGLIGIBLE = 1e-6  # of a std: 0.485 · 255 and 123.675 are one mean


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are prepared.

    Attributes:
        mean: Subtracted from each channel, in `channel_order`.
        std: What each channel is divided by then.
        channel_order: 'RGB' or 'BGR'.
        range: Largest value of a picture, in the unit of `mean` and `std`: 1 or 255.

    Raises:
        CheckpointError: A value is none of these.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: ChannelOrder = "RGB"
    range: Literal[1, 255] = 255

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise CheckpointError(f"channel_order must be 'RGB' or 'BGR', got {self.channel_order!r}")
        if self.range not in (1, 255):
            raise CheckpointError(f"range must be 1 or 255, got {self.range!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise CheckpointError(f"mean and std must be 3 numbers, and std positive, got {self.mean} and {self.std}")

    def like(self, other: Preprocessing) -> Preprocessing:
        """The same, said in the order and the range of another one.

        Examples:
            >>> plain = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 'BGR', range=1)
            >>> Preprocessing((0.0, 0.0, 0.0), (255.0, 51.0, 51.0)).like(plain).std
            (0.2, 0.2, 1.0)
        """
        step = 1 if self.channel_order == other.channel_order else -1
        scale = other.range / self.range
        mean, std = ((a * scale, b * scale, c * scale) for a, b, c in (self.mean[::step], self.std[::step]))
        return Preprocessing(mean, std, other.channel_order, other.range)

    def same_as(self, other: Preprocessing) -> bool:
        """Whether pictures come out the same, but for rounding."""
        mine = self.like(other)
        apart = [abs(a - b) / s for a, b, s in zip((*mine.mean, *mine.std), (*other.mean, *other.std), other.std * 2)]
        return self.channel_order == other.channel_order and max(apart) < _NEGLIGIBLE


def fold_preprocessing(target: nn.Module | Tensor, trained: Preprocessing, given: Preprocessing) -> Tensor:
    """Makes weights that were trained on pictures prepared in one way fit pictures prepared in another.

    Args:
        target: A model, whose first convolution is changed in place; or that convolution's weight (out, 3, kH, kW),
            which is not changed.
        trained: How pictures were prepared for the weights.
        given: How they are prepared now.

    Returns:
        The weight of the first convolution, for `given`. The outputs are those of the old weight for `trained`, up to
        one rounding of each weight. Where the means differ, and the convolution pads nothing or with the picture's own
        pixels ('reflect', 'replicate', 'circular'), its bias takes the difference up; it gets one if it has none.

    Raises:
        CheckpointError: The means differ, and the convolution pads with zeros, or only its weight is given; it is not
            one of three channels; or it standardises its weight, so that no scale can be moved into it.

    Examples:
        >>> import torch
        >>> caffe = Preprocessing((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), 'BGR')
        >>> rgb = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 'RGB', range=1)
        >>> fold_preprocessing(torch.ones(1, 3, 1, 1), trained=caffe, given=rgb).flatten()
        tensor([58.3950, 57.1200, 57.3750])
    """
    conv = None if isinstance(target, Tensor) else _first_conv(target)
    old = target if isinstance(target, Tensor) else _first_conv(target).weight.detach()
    if old.ndim != 4 or old.shape[1] != 3 or (conv is not None and conv.groups > 1):
        raise CheckpointError(
            f"the first convolution must take 3 channels in one group, its weight is {tuple(old.shape)}"
        )
    wanted = trained.like(given)
    scale = [now / then for now, then in zip(given.std, wanted.std)]
    shift = [(now - then) / std for now, then, std in zip(given.mean, wanted.mean, wanted.std)]
    moved = any(abs(value) >= _NEGLIGIBLE for value in shift)
    if moved and (conv is None or (_pads(conv) and conv.padding_mode == "zeros")):
        why = (
            "it pads with zeros, which stand for the mean" if conv is not None else "its bias and padding are not known"
        )
        mean = tuple(float(f"{value:.9g}") for value in wanted.mean)
        raise CheckpointError(
            f"the mean cannot be moved into the first convolution: {why}; subtract the mean {mean} from the pictures "
            f"({given.channel_order}, of {given.range}) in place of {given.mean}"
        )
    if type(conv) not in (nn.Conv2d, type(None)) and (moved or any(abs(value - 1) >= _NEGLIGIBLE for value in scale)):
        raise CheckpointError(f"no scale can be moved into a {type(conv).__name__}, which may change its weight itself")
    ordered = old.double().flip(1) if trained.channel_order != given.channel_order else old.double()
    new = (ordered * torch.tensor(scale, dtype=torch.double).view(3, 1, 1)).to(old.dtype)
    if conv is not None:
        with torch.no_grad():
            if moved:
                extra = (ordered * torch.tensor(shift, dtype=torch.double).view(3, 1, 1)).sum((1, 2, 3))
                before = extra.new_zeros(()) if conv.bias is None else conv.bias.double()
                conv.bias = nn.Parameter((before + extra).to(old.dtype), requires_grad=conv.weight.requires_grad)
            conv.weight.copy_(new)
    return new


def _first_conv(model: nn.Module) -> nn.Conv2d:
    conv = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None:
        raise CheckpointError(f"a {type(model).__name__} has no convolution that could take the preprocessing up")
    return conv


def _pads(conv: nn.Conv2d) -> bool:
    if isinstance(conv.padding, str):
        return conv.padding == "same" and max(conv.kernel_size) > 1
    return any(conv.padding)
