"""What trains and what does not, by stage or by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import partial

from torch import nn

from ..backbones import Backbone
from ..errors import ConfigError
from .names import check_kinds, check_patterns


def freeze(model: nn.Module, *patterns: str, stages: int | None = None) -> nn.Module:
    """Keeps parts of a model as they are: no gradients, and in eval through every `train()`.

    Args:
        model: A backbone, or anything that holds some. Changed in place.
        *patterns: Modules, with all that is in them, and parameters by name, `*` for any characters.
        stages: The stem and the stages 1..k of each backbone, as `frozen_stages`; what is frozen already stays so.
            Neither this nor any pattern: everything.

    Returns:
        `model`.

    Raises:
        ConfigError: A pattern matches nothing, or there are fewer stages.

    Examples:
        >>> from backbone_kit import build_backbone
        >>> net = freeze(build_backbone('resnet18'), 'layer3.*.bn?', stages=1).train()
        >>> net.frozen_stages, net.layer3[0].bn1.training, net.layer3[0].bn1.weight.requires_grad
        (1, False, False)
    """
    check_kinds(freeze, model, stages=stages)
    modules, parameters = _named(model, patterns or (("*",) if stages is None else ()))
    if stages is not None:
        for net in _backbones(model, stages):
            net.frozen_stages = max(net.frozen_stages, stages)
    for parameter in parameters:
        parameter.requires_grad_(False)
    for module in modules:
        hold(module)
    return model.train(model.training)


def unfreeze(model: nn.Module, *patterns: str, stages: int | None = None) -> nn.Module:
    """Lets parts of a model train.

    Args:
        model: A backbone, or anything that holds some. Changed in place.
        *patterns: Modules, with all that is in them, and parameters by name, `*` for any characters.
        stages: The stages k, k + 1, ... of each backbone; 0: the stem too. Lowers `frozen_stages`.
            Neither this nor any pattern: everything.

    Returns:
        `model`.

    Raises:
        ConfigError: A pattern matches nothing, or what `frozen_stages` freezes, or there are fewer stages.
    """
    check_kinds(unfreeze, model, stages=stages)
    if not patterns and stages is None:
        patterns, stages = ("*",), 0
    modules, parameters = _named(model, patterns)
    nets = _backbones(model, stages)
    frozen = {net: net.frozen_stages if stages is None else min(net.frozen_stages, stages - 1) for net in nets}
    for net, last in frozen.items():
        held = {p for m in _parts(net, 0, last) for p in m.parameters()}
        if held.union(net.loose_parameters() if last >= 0 else ()).intersection(parameters):
            cure = f"unfreeze(model, stages=k) with k up to {last} frees the stages from k on"
            raise ConfigError(f"frozen_stages={last} freezes some of it; {cure}", ("patterns",))
    for net, last in frozen.items():
        net.frozen_stages = last
        if stages is not None:
            modules += [layer for module in _parts(net, stages, len(net.parts)) for layer in module.modules()]
            parameters += net.loose_parameters() if stages == 0 else ()
    for module in modules:
        module.__dict__.pop("train", None)
        parameters += module.parameters(recurse=False)
    for parameter in parameters:
        parameter.requires_grad_()
    return model.train(model.training)


def hold(module: nn.Module) -> None:
    """Keeps a module, but not what is inside of it, in eval through every `train()`."""
    module.train = partial(_in_eval, module)  # type: ignore[method-assign]


def is_held(module: nn.Module) -> bool:
    """Whether `hold` was called of it, and `unfreeze` not since."""
    return "train" in vars(module)


def _in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """`train` of a module that is frozen; what is inside of it says for itself whether it is."""
    type(module).train(module, mode)
    module.training = False
    return module


def _named(model: nn.Module, patterns: Sequence[str]) -> tuple[list[nn.Module], list[nn.Parameter]]:
    """The modules that the patterns match, with all inside of them, and the parameters of both."""
    modules = {name: module for name, module in model.named_modules() if name}
    parameters = dict(model.named_parameters())
    check_patterns(patterns, [*modules, *parameters], "patterns")

    def matched(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    inside = [layer for name, module in modules.items() if matched(name) for layer in module.modules()]
    of_modules = [p for module in inside for p in module.parameters(recurse=False)]
    return inside, of_modules + [p for name, p in parameters.items() if matched(name)]


def _backbones(model: nn.Module, stages: int | None) -> list[Backbone]:
    nets = [module for module in model.modules() if isinstance(module, Backbone)]
    if stages is not None:
        most = min((len(net.stage_names) for net in nets), default=None)
        if most is None:
            raise ConfigError("the model holds no backbone, whose stages these could be", ("stages",))
        if not 0 <= stages <= most:
            raise ConfigError(f"must be from 0 (the stem) to {most}, got {stages}", ("stages",))
    return nets


def _parts(net: Backbone, first: int, last: int) -> list[nn.Module]:
    """The modules of a backbone from one stage to another."""
    parts = [part for part in net.parts if first <= part.position <= last]
    return [net.get_submodule(name) for part in parts for name in part.modules + part.out]
