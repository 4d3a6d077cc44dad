"""Whether weights of a known kind do in a model what they did where they were trained."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import CheckpointError
from .entry import WeightEntry
from .preprocessing import Preprocessing


def check_fit(entry: WeightEntry, model: nn.Module, pictures: Preprocessing | None = None) -> None:
    """Refuses what would load without a word and compute something else.

    Args:
        entry: What is known of the weights; what is not known is not checked.
        model: What will take them.
        pictures: How the user says that pictures are prepared; None: not said.

    Raises:
        CheckpointError: The stride of bottlenecks is in another convolution; fused BatchNorms would compute statistics
            of their own; or pictures are prepared in another way. The message says what to change.
    """
    for wrong in (_style(entry, model), _fused(entry, model), _pictures(entry, pictures)):
        if wrong:
            raise CheckpointError(f"{entry.name}: {wrong}")


def _style(entry: WeightEntry, model: nn.Module) -> str:
    places = {"caffe": "its first 1x1", "pytorch": "its 3x3"}
    found = {style for module in model.modules() if (style := _style_of(module))}
    if entry.style is None or not found - {entry.style}:
        return ""
    (other,) = found - {entry.style}
    return (
        f"a bottleneck has its stride in {places[entry.style]} there (style={entry.style!r}), and here in "
        f"{places[other]}; set style={entry.style!r}"
    )


def _style_of(module: nn.Module) -> str:
    """Of a bottleneck that has a stride, where."""
    first, second = getattr(module, "conv1", None), getattr(module, "conv2", None)
    if not isinstance(first, nn.Conv2d) or max(first.kernel_size) > 1 or not isinstance(second, nn.Module):
        return ""
    stride = getattr(second, "stride", 1)
    spatial = max(stride) if isinstance(stride, tuple) else stride
    return "caffe" if max(first.stride) > 1 else "pytorch" if spatial > 1 else ""


def _fused(entry: WeightEntry, model: nn.Module) -> str:
    if not entry.fused_bn:
        return ""
    modes = {module: module.training for module in model.modules()}
    model.train()
    training = sum(isinstance(module, _BatchNorm) and module.training for module in modes)
    for module, mode in modes.items():
        module.training = mode
    if not training:
        return ""
    return (
        f"its BatchNorms are fused, with mean 0 and variance 1, and {training} of this model's would compute their own "
        "statistics when it trains; set norm_eval=True and norm_cfg=dict(type='BN', requires_grad=False)"
    )


def _pictures(entry: WeightEntry, pictures: Preprocessing | None) -> str:
    expected = entry.preprocessing
    if expected is None or pictures is None or expected.same_as(pictures):
        return ""
    return (
        f"expects pictures in {expected.channel_order} of {expected.range}, with mean={expected.mean} and "
        f"std={expected.std}, and gets {pictures.channel_order} of {pictures.range}, with mean={pictures.mean} and "
        f"std={pictures.std}; prepare them so, or load without saying how they are, and call fold_preprocessing"
    )
