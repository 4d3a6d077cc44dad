"""Parameters of which every process holds a share: torch's `DTensor`s, as FSDP2 makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def shared_out(whole: Tensor, like: Any) -> Tensor:
    """The share of `whole` that this process holds of `like`, by what the first process has; or all of it.

    Every process has to call this.
    """
    if not hasattr(like, "device_mesh"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.detach().to(like.device, like.dtype), like.device_mesh, like.placements)


@contextmanager
def whole_parameters(model: nn.Module) -> Iterator[None]:
    """While this is open, parameters are whole; then they are shared out again, as the first process has them.

    For what reads or fills parameters as if nothing was shared out, `load_state_dict` aside. Every process has to open
    it, and has the memory for all. A model that is not shared out is left as it is.

    Args:
        model: A model, or a part of one.
    """
    for module in model.modules():
        if callable(getattr(module, "reshard", None)):  # FSDP2 may have gathered them for a forward
            module.reshard()  # type: ignore[operator]
    places: list[tuple[dict[str, Any], str, Any]] = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and hasattr(parameter, "device_mesh") and not parameter.is_meta
    ]
    wholes = {share: nn.Parameter(share.detach().full_tensor(), share.requires_grad) for _, _, share in places}
    for parameters, name, share in places:
        parameters[name] = wholes[share]
    try:
        yield
    finally:
        for parameters, name, share in places:
            parameters[name] = share
        with torch.no_grad():
            for share, whole in wholes.items():
                share.copy_(shared_out(whole, share))
