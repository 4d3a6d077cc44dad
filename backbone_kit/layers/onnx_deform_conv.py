"""The operator that ONNX has for deformable convolutions, for the runtimes that have it, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from .deform_samples import Geometry
from .tracing import is_exporting

_wanted: ContextVar[bool] = ContextVar("deform_conv_node", default=False)


@contextmanager
def onnx_deform_conv() -> Iterator[None]:
    """While this lasts, `torch.onnx.export` writes a deformable convolution as one `DeformConv` node of opset 19.

    Otherwise it is written in plain operators, which every runtime has; few have `DeformConv`. It takes torch 2.8 or
    later, and `torch.onnx.export(…, dynamo=True)` with an `opset_version` of 19 or above.

    Examples:
        >>> with onnx_deform_conv():
        ...     pass  # torch.onnx.export(net, (x,), "net.onnx", dynamo=True, opset_version=19)

    Raises:
        RuntimeError: This torch is too old.
    """
    if not hasattr(torch.onnx, "ops"):
        raise RuntimeError(f"onnx_deform_conv() needs torch 2.8 or later, this is {torch.__version__}")
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def is_node_wanted() -> bool:
    """Whether a deformable convolution is to be one node now."""
    return _wanted.get() and is_exporting()


def deform_conv_node(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, geometry: Geometry
) -> Tensor:
    """`deform_conv2d` as that node; runs in an exported program alone."""
    (top, left), (height, width) = geometry.padding, geometry.kernel
    y: Tensor = torch.onnx.ops.symbolic(
        "DeformConv",
        (input, weight, offset, bias, mask),
        attrs={
            "kernel_shape": [height, width],
            "strides": list(geometry.stride),
            "pads": [top, left, top, left],
            "dilations": list(geometry.dilation),
            "group": input.shape[1] // weight.shape[1],
            "offset_group": geometry.moving,
        },
        dtype=input.dtype,
        shape=(input.shape[0], weight.shape[0], *offset.shape[2:]),
        version=19,
    )
    return y
