"""One model on several processes, with `torch.distributed`."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.modules.batchnorm import _BatchNorm

from .backbones import Backbone
from .checkpoint.sharded import whole_parameters
from .errors import ConfigError

__all__ = ["average_statistics", "shard", "whole_parameters"]

METHODS = ("forward_intermediates", "rfp_forward")  # what runs a backbone, besides `forward`


def shard(model: nn.Module, mesh: DeviceMesh | None = None, **options: Any) -> nn.Module:
    """Shares out the parameters over processes, with torch's FSDP2: block by block, each of which gathers its own.

    A backbone that was built on the meta device gets memory for its share alone, by `to_empty(device=...)`, and then
    the weights of one process, by `init_weights()`. Checkpoints are torch.distributed.checkpoint's.

    Args:
        model: A backbone, or anything that holds some; what is around them is one group. Changed in place.
        mesh: The processes; None: all.
        **options: Further arguments of `torch.distributed.fsdp.fully_shard`, such as `mp_policy`.

    Returns:
        `model`.

    Raises:
        ConfigError: A backbone has `recompute`: what runs again in backward may need the weights of other blocks.
        ImportError: torch is older than 2.6.

    Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277.
    """
    try:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    except ImportError as error:
        raise ImportError(f"shard needs torch 2.6 or later, this is {torch.__version__}") from error
    nets = [module for module in model.modules() if isinstance(module, Backbone)]
    if any(net.recompute is not None for net in nets):
        raise ConfigError(
            "does not go with FSDP2, which has one block's weights at a time; use with_cp=True, where it has that",
            ("recompute",),
        )
    for net in nets:
        blocks = [module for unit in net.units()[1:] for module in unit]
        for module in blocks:
            if any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh, **options)
        fully_shard(net, mesh=mesh, **options)
        for name in METHODS:
            if hasattr(net, name):
                register_fsdp_forward_method(net, name)
    if model not in nets:
        fully_shard(model, mesh=mesh, **options)
    return model


def average_statistics(model: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Gives all processes the mean of what their BatchNorms counted, before a model is evaluated or saved.

    Each process counts its own pictures; DistributedDataParallel keeps the first one's count, FSDP2 all of them.

    Args:
        model: Its statistics are changed in place.
        group: The processes; None: all.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    counted = [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]
    if counted:
        together = torch.cat(counted)
        dist.all_reduce(together, group=group)
        together /= dist.get_world_size(group)
        for statistic, mean in zip(counted, torch.split(together, [len(s) for s in counted])):
            statistic.copy_(mean)
