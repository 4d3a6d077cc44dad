"""A backbone made ready for inference: fewer layers, a faster layout, and the same maps."""

from __future__ import annotations

import copy
import os
import shutil
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..errors import ConfigError
from ..layers.fuse_conv_bn import fuse_conv_bn
from ..layers.replace import replace_modules

# How far the maps may be off, in the norm of the map: some hundred roundings of that dtype.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class PreparedBackbone(nn.Module):
    """What `prepare_for_inference` returns: pictures in, maps out, without gradients, always in eval mode.

    Args:
        net: The backbone, changed already.
        dtype: What it computes in.
        compiled: Whether inductor compiles it, with its weights as constants, when it is first called, and again after
            a `load_state_dict`; edits of single weights in place it does not see.

    Attributes:
        out_channels, out_strides: As the backbone's.

    Shape:
        - Input: (N, in_channels, H, W), of any floating dtype
        - Output: as the backbone's, of `dtype`
    """

    def __init__(self, net: Backbone, dtype: torch.dtype, *, compiled: bool) -> None:
        super().__init__()
        self.out_channels = net.out_channels
        self.out_strides = net.out_strides
        self.net = net.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled = compiled
        self.eval()._compile()

    def _compile(self) -> None:
        compiled = self.compiled and self.dtype != torch.float64
        self._run = _with_constant_weights(self.net.forward) if compiled else self.net.forward

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype: torch.dtype = next(self.net.parameters()).dtype
        return dtype

    def train(self, mode: bool = True) -> PreparedBackbone:
        """Stays in eval mode: what folds into statistics must not move them. Returns self."""
        return super().train(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of the levels in the backbone's `out_indices`."""
        self.net.check_pictures(x)
        with torch.no_grad():
            maps: tuple[Tensor, ...] = self._run(x.to(dtype=self.dtype, memory_format=torch.channels_last))
            return maps

    def _apply(self, *args: Any, **kwargs: Any) -> PreparedBackbone:
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._compile()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        if self.compiled:  # what was compiled holds the weights of the old one
            self.net = copy.deepcopy(self.net)
            self._compile()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._compile()


def prepare_for_inference(
    backbone: Backbone, example: Tensor, dtype: torch.dtype | None = None, *, compiled: bool | None = None
) -> PreparedBackbone:
    """A copy of a backbone for inference: quicker, and checked to give the same maps.

    Branches that are one convolution are merged, norms are folded into the convolutions before them, what no level in
    `out_indices` needs is left out, weights are laid out in channels_last and, where there is a compiler, all of it is
    compiled with the weights as constants.

    Args:
        backbone: Left as it is.
        example: Pictures (N, in_channels, H, W) such as it will see, on its device: the maps of these are compared.
        dtype: What the copy computes in; None: the dtype that the weights have.
        compiled: Whether inductor compiles the copy, which takes a minute or so; None: where there is a C++ compiler
            with Python's headers, or, on a GPU, Triton, and `dtype` is not float64, which inductor cannot freeze.

    Raises:
        ConfigError: `backbone` is none, `dtype` is not a floating one, or `example` has no pictures or is elsewhere
            than the weights.
        RuntimeError: A map differs from the backbone's by more than roundings of `dtype` explain.
    """
    if not isinstance(backbone, Backbone):
        raise ConfigError(f"must be a Backbone, got a {type(backbone).__name__}", ("backbone",))
    net = copy.deepcopy(backbone).eval().requires_grad_(False)
    weight = next(net.parameters())
    example = _pictures(example, weight)
    dtype = weight.dtype if dtype is None else dtype
    if dtype not in _TOLERANCES:
        allowed = ", ".join(map(str, _TOLERANCES))
        raise ConfigError(f"must be one of {allowed}, got {dtype}", ("dtype",))
    if compiled and dtype == torch.float64:
        raise ConfigError("must be False or None in torch.float64, which inductor cannot freeze", ("compiled",))
    with torch.no_grad():
        expected = net(example)
    prepared = PreparedBackbone(
        merge_layers(net, example),
        dtype,
        compiled=_has_compiler(example) if compiled is None else compiled,
    )
    rounds_as = torch.float16 if dtype == torch.float32 and _multiplies_in_tf32(example) else dtype
    _check_maps(prepared(example), expected, max(_TOLERANCES[rounds_as], _TOLERANCES[weight.dtype]))
    return prepared


def _pictures(example: Any, weight: Tensor) -> Tensor:
    """The example in the dtype of the weights."""
    if not (isinstance(example, Tensor) and example.dim() == 4 and example.numel() and example.is_floating_point()):
        got = f"{example.dtype} of shape {tuple(example.shape)}" if isinstance(example, Tensor) else repr(type(example))
        raise ConfigError(f"must be a tensor of pictures (N, C, H, W) of a floating dtype, got {got}", ("example",))
    if weight.is_meta:
        raise ConfigError("must have memory, is on the meta device; see `to_empty` and `init_weights`", ("backbone",))
    if example.device != weight.device:
        raise ConfigError(f"must be on {weight.device}, as the weights are, got {example.device}", ("example",))
    return example.to(weight.dtype)


def merge_layers(net: Backbone, example: Tensor) -> Backbone:
    """A copy with fewer layers: branches merged, norms folded, and without what no level in `out_indices` needs.

    Args:
        net: In eval mode; used up.
        example: Pictures that it can run on.
    """
    if callable(getattr(net, "reparameterize", None)):
        net.reparameterize()  # type: ignore[operator]
    merged = fuse_conv_bn(_without_what_is_not_needed(net), example)
    assert isinstance(merged, Backbone)
    return merged


def _without_what_is_not_needed(net: Backbone) -> nn.Module:
    """The net, with nothing in the place of layers that no level in `out_indices` needs."""
    wanted = {net.feature_info[index + 1].name for index in net.out_indices}
    last = max(index for index, part in enumerate(net.parts) if part.is_level and part.name in wanted)
    needed: set[str] = set()
    for part in net.parts[: last + 1]:
        needed.update(part.modules, part.out if part.name in wanted else ())
    others = {name for part in net.parts for name in part.modules + part.out} - needed
    return replace_modules(net, {net.get_submodule(name): nn.Identity().eval() for name in others})


def _with_constant_weights(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` compiled; weights are packed for the kernels that read them, norms and activations run inside these."""
    from torch._inductor import config

    # Not compile's own option of that name: it does not reach the tracer, which then leaves the weights arguments.
    compiled: Callable[..., Any] = config.patch(freezing=True)(torch.compile(forward))
    return compiled


def _multiplies_in_tf32(x: Tensor) -> bool:
    """Whether convolutions of float32 multiply with 10 bits, as many as float16 has."""
    return x.is_cuda and torch.backends.cudnn.allow_tf32


def _has_compiler(x: Tensor) -> bool:
    if x.device.type == "cuda":
        return torch.utils._triton.has_triton()
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    return headers and any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "c++"))


def _check_maps(maps: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    for index, (ours, theirs) in enumerate(zip(maps, expected, strict=True)):
        exact = theirs.double()
        if not exact.isfinite().all():
            raise RuntimeError(f"map {index} of the backbone itself is not finite; look at its weights and the example")
        off = float((ours.double() - exact).norm() / exact.norm().clamp(min=1e-30))
        if not off <= tolerance:
            raise RuntimeError(
                f"map {index} of the prepared net is off by {off:.1e} of its norm, more than the {tolerance:.0e} that "
                f"roundings of {ours.dtype} and {theirs.dtype} explain; the backbone is as it was. Try another dtype; "
                "if the backbone itself has hooks, they do not run in the prepared one"
            )
