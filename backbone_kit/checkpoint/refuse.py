"""When a source is not good enough for a model, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .report import LoadReport
from .stem import stem_key
from .words import few


def refusal(report: LoadReport, own: Mapping[str, Tensor], strict: bool, there: Sequence[str]) -> str:
    """Why a load is refused, and its fix; '' where it is not.

    Args:
        report: What the load would do.
        own: The model's tensors.
        strict: Whether everything must be served and nothing be left over inside the backbone. Under half served is
            refused in either case.
        there: The source's keys.
    """
    if 2 * len(report.matched) >= report.needed and not strict:
        return ""
    if report.wrong_shape:
        shapes = [f"{key} is {there} there, {here} here" for key, (there, here) in report.wrong_shape.items()]
        return f"{few(shapes)}. {_shape_fix(report, own)}"
    if report.missing or not report.matched:
        return (
            f"serves {len(report.matched)} of the model's {report.needed} keys under the prefix {report.prefix!r}; "
            f"missing: {few(report.missing)}; it has: {few(there)}. Is this the checkpoint of that net, in one of its "
            "layouts (docs/checkpoints.md)? For another prefix, pass prefix='...'; to keep what the model has where a "
            "few are missing, strict=False"
        )
    if report.unexpected:
        return (
            f"serves all of the model's keys, and has {len(report.unexpected)} more inside the backbone: "
            f"{few(report.unexpected)}. Is this the checkpoint of a deeper net? To leave them out, pass strict=False"
        )
    return ""


def _shape_fix(report: LoadReport, own: Mapping[str, Tensor]) -> str:
    stem = stem_key(own)
    if list(report.wrong_shape) == [stem]:
        there, here = report.wrong_shape[stem]
        if there[:1] + there[2:] == here[:1] + here[2:]:
            how = "sum" if here[1] == 1 else "repeat"
            return f"To make a stem of {here[1]} channels out of one of {there[1]}, pass adapt_stem='{how}'"
    return "Is this the checkpoint of that depth and width?"
