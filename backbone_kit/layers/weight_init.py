"""Weight initialisation from a config: which layers, by class name, get their weights from which distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from ..errors import ConfigError, Path, Problem, did_you_mean
from ..registry import Registry

INITIALIZERS = Registry(
    "initializer",
    supplied=("weight",),
    options={
        "bias": float,
        "bias_prob": float | None,
        "layer": str | Sequence[str] | None,
        "override": Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    },
)

Distribution = Literal["normal", "uniform"]
Nonlinearity = Literal["relu", "leaky_relu", "selu", "tanh", "sigmoid", "linear"]


@INITIALIZERS.register_module("Constant")
def constant(weight: Tensor, val: float) -> None:
    """The same value everywhere."""
    nn.init.constant_(weight, val)


@INITIALIZERS.register_module("Normal")
def normal(weight: Tensor, mean: float = 0.0, std: float = 1.0) -> None:
    """N(mean, std²)."""
    nn.init.normal_(weight, mean, std)


@INITIALIZERS.register_module("TruncNormal")
def trunc_normal(weight: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> None:
    """N(mean, std²) cut off at the values `a` and `b`."""
    nn.init.trunc_normal_(weight, mean, std, a, b)


@INITIALIZERS.register_module("Uniform")
def uniform(weight: Tensor, a: float = 0.0, b: float = 1.0) -> None:
    """U(a, b)."""
    nn.init.uniform_(weight, a, b)


@INITIALIZERS.register_module("Xavier")
def xavier(weight: Tensor, gain: float = 1.0, distribution: Distribution = "normal") -> None:
    """Variance gain² · 2 / (fan_in + fan_out). Source: Glorot and Bengio, 2010."""
    draw = nn.init.xavier_normal_ if distribution == "normal" else nn.init.xavier_uniform_
    draw(weight, gain)


@INITIALIZERS.register_module("Kaiming")
def kaiming(
    weight: Tensor,
    a: float = 0.0,
    mode: Literal["fan_out", "fan_in"] = "fan_out",
    nonlinearity: Nonlinearity = "relu",
    distribution: Distribution = "normal",
) -> None:
    """Variance gain² / fan, `a` being the negative slope of a leaky ReLU. Source: He et al., arXiv:1502.01852."""
    draw = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_
    draw(weight, a, mode, nonlinearity)


@INITIALIZERS.register_module("Caffe2Xavier")
def caffe2_xavier(weight: Tensor) -> None:
    """U(-l, l) with l = sqrt(3 / fan_in): Caffe2's XavierFill."""
    nn.init.kaiming_uniform_(weight, a=1, mode="fan_in", nonlinearity="leaky_relu")


class _Step(NamedTuple):
    """Some layers, and what fills their weights and biases."""

    layers: list[nn.Module]
    fill: Callable[[Tensor], None]
    bias: float
    path: Path


def initialize(module: nn.Module, init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> None:
    """Fills the weights of the layers that `init_cfg` names, then lets layers with rules of their own apply them.

    A layer is named by its class or any of that class's bases. Layers below `module` that have `init_weights()` run it
    at the end: the zero offsets of a deformable convolution survive any config. On the meta device only the config is
    checked.

    Args:
        module: The net, or a part of it.
        init_cfg: One entry, or several applied in order; None means none. An entry has `type` (in `INITIALIZERS`) with
            its arguments, `layer` (one or more class names), `bias` (default 0) or `bias_prob` (whose logit is the
            bias), and `override`: one or more entries that have the `name` of a submodule, dots allowed, in place of
            `layer`, and apply to all layers in there; one with a `name` alone repeats the outer initializer.

    Raises:
        ConfigError: Anything in `init_cfg` is unknown, missing or matches nothing: all of it in one message, before any
            weight changes. (Of several names in `layer` one has to match, the others have to be layer classes.) Or an
            initializer cannot fill a weight of that shape.
    """
    steps, problems = _plan(module, init_cfg)
    if problems:
        raise ConfigError(problems)
    if all(parameter.is_meta for parameter in module.parameters()):
        return
    for step in steps:
        for layer in step.layers:
            _fill(layer, step)
    for layer in list(module.modules())[1:]:
        own_rules = getattr(layer, "init_weights", None)
        if callable(own_rules):
            own_rules()


def _plan(module: nn.Module, init_cfg: Any) -> tuple[list[_Step], list[Problem]]:
    steps: list[_Step] = []
    problems: list[Problem] = []
    by_class = _by_class_name(module)
    submodules = dict(module.named_modules())
    for cfg, path in _entries(init_cfg):
        found = _check(cfg, path)
        problems += found
        if found:
            continue
        names = [name for name, _ in _entries(cfg.get("layer"))]
        if names:
            problems += _check_layers(names, by_class, (*path, "layer"))
            steps.append(_step(cfg, path, [layer for name in names for layer in by_class.get(name, ())]))
        elif not cfg.get("override"):
            problems.append(Problem("'layer' is missing: the class names of what to fill, such as 'Conv2d'", path))
        for override, place in _entries(cfg.get("override"), (*path, "override")):
            name = override.get("name")
            rest = {key: value for key, value in override.items() if key != "name"}
            found = _check_name(name, submodules, place) + (_check(rest, place, ("layer", "override")) if rest else [])
            problems += found
            if not found:
                steps.append(_step(rest or cfg, place, submodules[name].modules()))
    return steps, problems


def _entries(value: Any, path: Path = ()) -> list[tuple[Any, Path]]:
    """One or several of something, each with its place."""
    if value is None:
        return []
    return [(item, (*path, i)) for i, item in enumerate(value)] if isinstance(value, (list, tuple)) else [(value, path)]


def _step(cfg: Mapping[str, Any], path: Path, layers: Iterable[nn.Module]) -> _Step:
    arguments = {key: value for key, value in cfg.items() if key != "type" and key not in INITIALIZERS.options}
    fill: Any = INITIALIZERS.get(cfg["type"]) or cfg["type"]
    probability = cfg.get("bias_prob")
    bias = cfg.get("bias", 0.0) if probability is None else -math.log((1 - probability) / probability)
    return _Step(list(dict.fromkeys(layers)), partial(fill, **arguments), bias, path)


def _fill(layer: nn.Module, step: _Step) -> None:
    own = dict(layer.named_parameters(recurse=False))
    weight, bias = own.get("weight", own.get("weight_orig")), own.get("bias")  # spectral norm keeps it as weight_orig
    if weight is not None:
        try:
            step.fill(weight)
        except ValueError as error:
            reason = f"cannot fill the weight of a {type(layer).__name__}, shape {tuple(weight.shape)}: {error}"
            raise ConfigError(reason, step.path) from error
    if bias is not None:
        nn.init.constant_(bias, step.bias)


def _check(cfg: Any, path: Path, refused: Sequence[str] = ()) -> list[Problem]:
    problems = INITIALIZERS.check(cfg, path)
    if problems:
        return problems
    problems = [
        Problem("an override fills every layer of the submodule it names; remove this", (*path, key))
        for key in refused
        if key in cfg
    ]
    probability = cfg.get("bias_prob")
    if probability is not None and "bias" in cfg:
        problems.append(Problem("'bias' and 'bias_prob' are two ways to say the same; remove one", path))
    if probability is not None and not 0 < probability < 1:
        problems.append(Problem(f"must be between 0 and 1, got {probability!r}", (*path, "bias_prob")))
    return problems


def _check_name(name: Any, submodules: Mapping[str, nn.Module], path: Path) -> list[Problem]:
    if name is None:
        return [Problem("'name' is missing: the submodule to fill, such as 'layer4.0.conv3'", path)]
    if isinstance(name, str) and name in submodules and name:
        return []
    root = type(submodules[""]).__name__
    return [Problem(f"{root} has no submodule {name!r}{did_you_mean(name, submodules)}", (*path, "name"))]


def _check_layers(names: Sequence[str], by_class: Mapping[str, Any], path: Path) -> list[Problem]:
    wrong = [name for name in names if name not in by_class]
    if len(wrong) < len(names):  # ['_BatchNorm', 'GroupNorm'] is meant for nets with either
        known = _layer_classes() if wrong else ()
        wrong = [name for name in wrong if name not in known]
    hint = f"; it has: {', '.join(sorted(by_class))}"
    return [Problem(f"no layer is a {name!r}{did_you_mean(name, by_class) or hint}", path) for name in wrong]


def _by_class_name(module: nn.Module) -> dict[str, list[nn.Module]]:
    """The layers of `module` under the names of their classes and of all bases of those."""
    by_type: dict[type, list[nn.Module]] = {}
    for layer in module.modules():
        by_type.setdefault(type(layer), []).append(layer)
    found: dict[str, list[nn.Module]] = {}
    for kind, layers in by_type.items():
        for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
            found.setdefault(base.__name__, []).extend(layers)
    return found


def _layer_classes(kind: type[nn.Module] = nn.Module) -> set[str]:
    """The names of all layer classes there are."""
    return {kind.__name__}.union(*(_layer_classes(each) for each in kind.__subclasses__()))
