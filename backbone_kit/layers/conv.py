"""Convolutions by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from torch import nn
from torch.overrides import TorchFunctionMode

from ..registry import Registry

CONV_LAYERS = Registry(
    "conv layer",
    supplied=("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"),
)
ConvCfg = Annotated[Mapping[str, Any], CONV_LAYERS]

for _names, _layer in {
    "Conv1d": nn.Conv1d,
    ("Conv2d", "Conv"): nn.Conv2d,
    "Conv3d": nn.Conv3d,
    ("deconv", "ConvTranspose2d"): nn.ConvTranspose2d,
    ("deconv3d", "ConvTranspose3d"): nn.ConvTranspose3d,
}.items():
    CONV_LAYERS.register_module(_names, module=_layer)


def build_conv_layer(cfg: ConvCfg | None, *args: Any, **kwargs: Any) -> nn.Module:
    """A convolution.

    Args:
        cfg: `type` and what belongs to that type alone; None means `dict(type='Conv2d')`.
        *args, **kwargs: As for `torch.nn.Conv2d`: in_channels, out_channels, kernel_size, stride, padding, …

    Raises:
        ConfigError: The type or an argument of `cfg` is unknown, or set by `kwargs` as well.

    Examples:
        >>> build_conv_layer(dict(type='Conv2d', padding_mode='circular'), 3, 8, kernel_size=3, padding=1)
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), padding_mode=circular)
    """
    with _Undrawn():
        module: nn.Module = CONV_LAYERS.construct({"type": "Conv2d"} if cfg is None else cfg, *args, **kwargs)
    return module


class _Undrawn(TorchFunctionMode):
    """What `torch.nn.init` would draw on the meta device is left out: finding out that it is nothing takes long."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
