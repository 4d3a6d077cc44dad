"""Parameters in groups for an optimizer: by depth, and by whether weight decay is for them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..backbones import Backbone
from ..errors import ConfigError
from .names import check_kinds, check_patterns


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.05,
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Groups for any optimizer of torch's, of all that trains: `AdamW(param_groups(model, 1e-3, layer_decay=0.8))`.

    Norms, biases and whatever else has one dimension get no weight decay. In a backbone, the learning rate falls by
    `layer_decay` with each block from its end, the stem having the least; what is around it trains at `lr`.

    Args:
        model: A backbone, or anything that holds some.
        lr: Learning rate of what is outside of backbones; that of a last block is `lr * layer_decay`.
        weight_decay: Of all other parameters.
        layer_decay: Over 0, up to 1, which means no difference.
        no_decay: Further parameters without weight decay, by name, `*` for any characters.

    Returns:
        Groups with `params`, `lr` and `weight_decay`, from the stem on.

    Raises:
        ConfigError: An argument is out of range, a pattern matches nothing, or nothing trains.

    Source: Bao et al., "BEiT", arXiv 2106.08254, appendix; Clark et al., "ELECTRA", arXiv 2003.10555, section 3.2.
    """
    check_kinds(param_groups, model, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, no_decay=no_decay)
    if not 0 < lr < math.inf:
        raise ConfigError(f"must be over 0, got {lr}", ("lr",))
    if not 0 <= weight_decay < math.inf:
        raise ConfigError(f"must be 0 or more, got {weight_decay}", ("weight_decay",))
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"must be over 0 and up to 1, got {layer_decay}", ("layer_decay",))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ConfigError("nothing of the model trains; see backbone_kit.finetune.unfreeze")
    check_patterns(no_decay, [name for name, _ in model.named_parameters()], "no_decay")
    from_end = _blocks_from_end(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in trained.items():
        depth = from_end.get(id(parameter), 0)
        spared = parameter.ndim <= 1 or any(fnmatch.fnmatchcase(name, pattern) for pattern in no_decay)
        group = dict(params=[], lr=lr * layer_decay**depth, weight_decay=0.0 if spared else weight_decay)
        groups.setdefault((depth if layer_decay < 1 else 0, spared), group)["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (-key[0], key[1]))]


def _blocks_from_end(model: nn.Module) -> dict[int, int]:
    """By the id of each parameter of a backbone: 1 in its last block, and one more for each block before."""
    found = {}
    for net in model.modules():
        if isinstance(net, Backbone):
            units = net.units()
            found.update({id(p): len(units) for p in net.loose_parameters()})
            found.update({id(p): len(units) - i for i, unit in enumerate(units) for m in unit for p in m.parameters()})
    return found
