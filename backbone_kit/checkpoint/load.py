"""A state dict into a model: all or nothing, and a report of what went where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .contents import Checkpoint
from .fit import check_fit
from .fresh import fresh_layers, optional_keys
from .io import read_checkpoint
from .match import AUTO, Match, find_match
from .preprocessing import Preprocessing
from .put import put
from .refuse import refusal
from .report import LoadReport
from .stem import AdaptStem, adaptable, adapted, stem_key
from .words import few

Source = str | os.PathLike[str] | Mapping[str, Any]


def load_checkpoint(
    model: nn.Module,
    source: Source,
    layout: str = AUTO,
    strict: bool = True,
    prefix: str | None = None,
    *,
    ema: bool = False,
    adapt_stem: AdaptStem | None = None,
    preprocessing: Preprocessing | None = None,
) -> LoadReport:
    """Loads weights in any layout, from whatever stands around them; all or nothing.

    What counts is which keys of the model are served. A source may lack counters of batches; what a layer of the model
    can do without (its class lists those keys in `optional_keys`); and layers that are new on purpose (its class says
    `brings_new`), such as plugins. Keys of other parts, such as necks and classifiers, are left aside.

    A model on the meta device takes the tensors of the source in place of its own; one with memory copies them.

    Args:
        model: What receives the weights; untouched when the load fails.
        source: What `read_checkpoint` reads: a path, a URL, a name such as 'torchvision://resnet50', a state dict, or a
            mapping that holds one.
        layout: Whose names the source has: 'timm', 'detectron2', …; 'auto': found out from the keys.
        strict: Whether every key of the model must be served, in its shape, and no other may lie inside the backbone.
        prefix: What stands before the backbone's keys in `source`, with or without the dot; None: what serves most.
        ema: Whether to take the weights that are averaged over training.
        adapt_stem: How the first convolution takes another number of channels than the source's: 'sum' adds the
            source's up into one; 'repeat' repeats them in turn into more, scaled down by as much. None: not at all.
        preprocessing: How pictures are prepared, to be compared with what named weights expect; None: not compared.

    Returns:
        What went where.

    Raises:
        CheckpointError: The source cannot be read; a tensor is none of the model's kind, or has values that are no
            numbers; strict, and a key is missing, of another shape, or unexpected; fewer than half of the keys are
            served; two prefixes serve equally many; or the source is a name whose weights would compute something else
            in this model: `check_fit` says when.
    """
    _check_call(model, source, layout, strict, prefix, adapt_stem)
    report, match, weights = examine(
        model, source, layout, prefix, ema=ema, adapt_stem=adapt_stem, preprocessing=preprocessing
    )
    tensors = {key: value for key, value in _served(match, weights).items() if key not in report.wrong_shape}
    own = model.state_dict()
    stem = stem_key(own)
    if adapt_stem and stem in report.matched:
        tensors[stem] = adapted(tensors[stem], own[stem].shape[1], adapt_stem)
    wrong = [reason for key, value in tensors.items() for reason in _misfits(key, value, own[key])]
    if wrong:
        raise CheckpointError(f"{report.source}: {few(wrong)}")
    reason = refusal(report, own, strict, list(weights))
    if reason:
        raise CheckpointError(f"{report.source}: {reason}")
    tensors = {key: value.reshape(own[key].shape) for key, value in tensors.items()}
    fresh = fresh_layers(model, tensors)
    without = [key for key in (*report.missing, *report.wrong_shape) if own[key].is_meta]
    if without:
        raise CheckpointError(
            f"{report.source}: {few(without)} would stay without memory; call model.to_empty(device='cpu') and "
            "initialise the model before loading"
        )
    put(model, tensors, fresh, copy=isinstance(source, Mapping))
    return report


def examine(
    model: nn.Module,
    source: Source,
    layout: str = AUTO,
    prefix: str | None = None,
    *,
    ema: bool = False,
    adapt_stem: AdaptStem | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[LoadReport, Match, Mapping[str, Tensor]]:
    """What a load would do: the report, who serves whom, and the source's tensors. Changes nothing.

    Args:
        model, source, layout, prefix, ema, adapt_stem, preprocessing: As for `load_checkpoint`.
    """
    checkpoint = read_checkpoint(source, ema=ema)
    if checkpoint.entry is not None:
        check_fit(checkpoint.entry, model, preprocessing)
    name, weights, hanging = checkpoint.name, checkpoint.tensors, checkpoint.hanging
    own = model.state_dict()
    if prefix and not prefix.endswith("."):
        prefix += "."
    try:
        aliases = getattr(model, "aliases", None)
        match = find_match([*weights, *hanging], own.keys(), layout, prefix, _roots(model), aliases)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    wanted = [f"{key} hangs on {hanging[key]}" for key in match.sources.values() if key in hanging]
    if wanted:
        raise CheckpointError(f"{name}: {few(wanted)}, which is not read; save plain tensors instead")
    return _report(name, model, own, weights, match, adapt_stem, checkpoint), match, weights


def _roots(model: nn.Module) -> set[str] | None:
    """The modules that a backbone is made of, None where the model does not say."""
    describe = getattr(model, "describe", None)
    return {name for part in describe() for name in part["modules"]} if callable(describe) else None


def _served(match: Match, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors for the model, by its keys."""
    tensors = {key: weights[source] for key, source in match.sources.items()}
    for key, view in match.views.items():
        tensors[key] = view.ours(tensors[key])
    for key, (beside, value) in match.constants.items():
        tensors[key] = torch.full_like(tensors[beside], value)
    return tensors


def _report(
    name: str,
    model: nn.Module,
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    match: Match,
    adapt_stem: AdaptStem | None,
    checkpoint: Checkpoint,
) -> LoadReport:
    served = _served(match, weights)
    fresh = fresh_layers(model, served)
    new = {key for keys in fresh.values() for key in keys}
    absent = [key for key in own if key not in served and key not in new]
    spared = set(optional_keys(model)).intersection(absent)
    stem = stem_key(own) if adapt_stem else None
    wrong = {
        key: (tuple(value.shape), tuple(own[key].shape))
        for key, value in served.items()
        if not _same_shape(value, own[key]) and not (key == stem and adaptable(value, own[key], adapt_stem))
    }
    return LoadReport(
        name,
        match.layout,
        match.prefix,
        matched=tuple(key for key in own if key in served and key not in wrong),
        renamed={key: source for key, source in match.sources.items() if source != match.prefix + key},
        missing=tuple(key for key in absent if key not in spared),
        optional=tuple(key for key in absent if key in spared),
        new=tuple(key for key in own if key in new),
        initialised_by=tuple(dict.fromkeys(type(model.get_submodule(path)).__name__ for path in fresh)),
        wrong_shape=wrong,
        unexpected=match.unexpected,
        left_aside=match.left_aside,
        not_read=checkpoint.left_aside,
        inert=checkpoint.inert,
    )


def _same_shape(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor is one of the model's, up to axes of extent 1 at the end: a 1x1 convolution is a linear map."""
    return value.shape == own.shape or (value.layout == torch.strided and _trimmed(value.shape) == _trimmed(own.shape))


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _misfits(key: str, value: Tensor, own: Tensor) -> list[str]:
    """Why a tensor cannot be copied into the model's, [] where it can."""
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return [f"{key} is no plain tensor there, but {_kind(value)}"]
    if value.is_floating_point() != own.is_floating_point() or value.is_complex():
        return [f"{key} is {_kind(value)} there, {_kind(own)} here"]
    if value.is_floating_point() and not _is_finite(value):
        return [f"{key} has values that are infinite or no number"]
    return []


def _is_finite(value: Tensor) -> bool:
    """Whether all values are finite; their sum, one pass, is finite only then, and mostly then."""
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())


def _kind(value: Tensor) -> str:
    words = ["meta"] * value.is_meta + ["quantized"] * value.is_quantized
    words += [str(value.layout).removeprefix("torch.")] * (value.layout != torch.strided)
    return " ".join([*words, str(value.dtype).removeprefix("torch.")])


def _check_call(model: Any, source: Any, layout: Any, strict: Any, prefix: Any, adapt_stem: Any) -> None:
    expected: tuple[tuple[str, Any, Any, str], ...] = (
        ("model", model, nn.Module, "a torch.nn.Module"),
        ("source", source, (str, os.PathLike, Mapping), "a path or a state dict"),
        ("layout", layout, str, "a string"),
        ("strict", strict, bool, "True or False"),
        ("prefix", prefix, (str, type(None)), "a string or None"),
    )
    for name, value, kind, words in expected:
        if not isinstance(value, kind):
            raise CheckpointError(f"{name} must be {words}, got a {type(value).__name__}")
    if adapt_stem not in (None, "sum", "repeat"):
        raise CheckpointError(f"adapt_stem must be 'sum', 'repeat' or None, got {adapt_stem!r}")
