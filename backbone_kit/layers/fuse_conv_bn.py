"""BatchNorms folded into the convolutions before them, for inference.

Which convolution a norm follows is read off a forward, not off names or the order of children: a pair is folded only if
every output of that convolution goes to that norm, and nowhere else, and every input of that norm comes from there.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import ConfigError
from .adaptive_padding import Conv2dAdaptivePadding
from .conv_ws import ConvAWS2d, ConvWS2d, StandardizedConv2d
from .dcn import DCN, DCNv2
from .frozen_batch_norm import FrozenBatchNorm2d, scale_and_shift
from .replace import replace_modules

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# By exact type: what a subclass computes is not known. An RFConv2d is no affine map with one bias: it is left out.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, ConvWS2d, ConvAWS2d, Conv2dAdaptivePadding, DCN, DCNv2)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, FrozenBatchNorm2d)


def fuse_conv_bn(model: nn.Module, example: Any = None) -> nn.Module:
    """A copy of a model, in eval mode, with the BatchNorms that follow a convolution folded into that.

    The convolution gets a bias, ConvWS and ConvAWS become the plain convolution that they compute, and an Identity
    stands in the norm's place. What cannot be folded stays as it is, so that the copy always computes what the model
    does in eval mode: a norm before its convolution, behind an activation, or of a map that something else reads as
    well; a norm without running statistics; a convolution of an unknown subclass, with hooks, or with a parametrized
    weight. Calls of other forms than that of `example`, such as `ConvModule.forward(norm=False)`, are not followed.

    Args:
        model: Left as it is.
        example: What the model is called with to see its flow: a tensor or a tuple of arguments. None: zeros of
            (1, C, 128, 128), with the channels of the first convolution.

    Returns:
        The copy, on the same device and of the same dtype.

    Raises:
        ConfigError: `example` is None and there is no 2-d convolution.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> fuse_conv_bn(net)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): Identity()
          (2): ReLU()
        )
    """
    fused = copy.deepcopy(model).eval()
    arguments = _zeros(fused) if example is None else example if isinstance(example, tuple) else (example,)
    convs = {module for module in fused.modules() if type(module) in _CONVS and _is_plain(module)}
    norms = {module for module in fused.modules() if type(module) in _NORMS and _has_statistics(module)}
    with torch.no_grad():
        pairs = _Flow(convs, norms).follow(fused, arguments)
        folded = {conv: _folded(conv, norm) for conv, norm in pairs.items()}
    return replace_modules(fused, {**folded, **{norm: nn.Identity().eval() for norm in pairs.values()}})


def _zeros(model: nn.Module) -> tuple[Tensor]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return (module.weight.new_zeros(1, module.in_channels, 128, 128),)
    raise ConfigError("is needed: there is no 2-d convolution whose input could be made up", ("example",))


def _is_plain(conv: Any) -> bool:
    """Whether the weight is a parameter that nothing computes, and nothing listens."""
    return isinstance(conv._parameters.get("weight"), nn.Parameter) and not _is_heard(conv)


def _has_statistics(norm: Any) -> bool:
    return norm.running_mean is not None and not _is_heard(norm)


def _is_heard(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches one forward: which norm reads what a convolution made, and what else does."""

    def __init__(self, convs: set[Any], norms: set[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._convs = convs
        self._norms = norms
        self._made: dict[int, tuple[Tensor, Any]] = {}  # the tensor too: while it is held, its id is its own
        self._calls: Counter[Any] = Counter()
        self._reads: Counter[tuple[Any, Any]] = Counter()
        self._shared: set[Any] = set()
        self._inside: Any = None

    def follow(self, model: nn.Module, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        """Runs the model; gives the norm that each convolution goes to, where it goes to that alone."""
        handles = [conv.register_forward_hook(self._after_conv) for conv in self._convs]
        for norm in self._norms:
            handles += [norm.register_forward_pre_hook(self._before_norm), norm.register_forward_hook(self._after_norm)]
        try:
            with self:
                output = model(*arguments)
        finally:
            for handle in handles:
                handle.remove()
        self._read_elsewhere(tree_leaves(output))
        readers = Counter(conv for conv, _ in self._reads.elements())
        return {
            conv: norm
            for (conv, norm), reads in self._reads.items()
            if conv not in self._shared and reads == self._calls[conv] == self._calls[norm] == readers[conv]
        }

    def _after_conv(self, conv: nn.Module, args: Any, output: Tensor) -> None:
        self._calls[conv] += 1
        self._made[id(output)] = (output, conv)

    def _before_norm(self, norm: nn.Module, args: Any) -> None:
        self._calls[norm] += 1
        self._inside = norm
        if args and id(args[0]) in self._made:
            self._reads[self._made[id(args[0])][1], norm] += 1

    def _after_norm(self, norm: nn.Module, args: Any, output: Tensor) -> None:
        self._inside = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._inside is None:
            self._read_elsewhere(tree_leaves((args, kwargs)))
        return func(*args, **(kwargs or {}))

    def _read_elsewhere(self, values: list[Any]) -> None:
        self._shared |= {self._made[id(value)][1] for value in values if id(value) in self._made}


def _folded(conv: Any, norm: Any) -> nn.Module:
    """The convolution that computes what the two do; its own weight is replaced, not changed."""
    scale, shift = scale_and_shift(norm)
    weight = conv.standardized_weight() if isinstance(conv, StandardizedConv2d) else conv.weight
    weight = weight * _per_filter(conv, weight, scale)
    bias = shift if conv.bias is None else conv.bias * scale + shift
    result: Any = _plain(conv) if isinstance(conv, StandardizedConv2d) else conv
    dtype, trains = conv.weight.dtype, conv.weight.requires_grad
    result.weight = nn.Parameter(weight.to(dtype), requires_grad=trains)
    result.bias = nn.Parameter(bias.to(dtype), requires_grad=trains)
    return cast("nn.Module", result)


def _per_filter(conv: _ConvNd, weight: Tensor, scale: Tensor) -> Tensor:
    """The factor of each output channel, shaped to be multiplied with the weight."""
    beyond = (1,) * (weight.dim() - 2)
    if isinstance(conv, _TRANSPOSED):  # (in, out / groups, …), the inputs of one group after those of the other
        return scale.view(conv.groups, -1, *beyond).repeat_interleave(conv.in_channels // conv.groups, 0)
    return scale.view(-1, 1, *beyond)


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    """A Conv2d of the same shape, its weight still to come."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return nn.Conv2d(**{name: getattr(conv, name) for name in names}, device="meta").eval()
