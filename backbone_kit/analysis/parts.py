"""What a model is made of: as it describes itself, else one part a child."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import Parameter


@dataclass(frozen=True)
class Part:
    """A stretch of a model's forward: the stem, a stage, a child.

    Attributes:
        name: What it is called.
        modules: Names of the submodules that belong to it, in execution order.
        blocks: How many blocks are stacked in it, None where that means nothing.
        stride: Of its output in input pixels, None where the model does not say.
        out_index: The position of its output among the model's outputs, None where it is not one of them.
    """

    name: str
    modules: tuple[str, ...]
    blocks: int | None = None
    stride: int | None = None
    out_index: int | None = None


def parts_of(model: nn.Module) -> list[Part]:
    """The parts of a model in execution order: by its own `describe()`, else one for each child, else itself."""
    if callable(describe := getattr(model, "describe", None)):
        return [
            Part(entry["name"], tuple(entry["modules"]), *(entry.get(key) for key in ("blocks", "stride", "out_index")))
            for entry in describe()
        ]
    children = [Part(name, (name,)) for name, _ in model.named_children()]
    return children or [Part(type(model).__name__, ("",))]


@dataclass(frozen=True)
class Contents:
    """What the modules of a part hold, without running them.

    Attributes:
        parameters: The number of parameters.
        trainable: How many of them take a gradient.
        frozen: 'all', 'norms' (nothing but scales and shifts), 'part' or '' (nothing).
        dilations: Of the convolutions whose kernel is larger than one, distinct and ascending.
        deformable: Deformable and switchable convolutions: class name to count.
        plugins: Class name to count.
    """

    parameters: int
    trainable: int
    frozen: str
    dilations: tuple[int, ...]
    deformable: dict[str, int]
    plugins: dict[str, int]


def contents_of(roots: Iterable[nn.Module]) -> Contents:
    """Looks into the modules of a part; what they share counts once."""
    modules = {module: None for root in roots for module in root.modules()}
    parameters = {parameter: None for module in modules for parameter in module.parameters(recurse=False)}
    convolutions = [module for module in modules if _is_convolution(module)]
    return Contents(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        frozen=_frozen(parameters),
        dilations=tuple(sorted({d for c in convolutions if max(c.kernel_size) > 1 for d in c.dilation})),  # type: ignore[arg-type, union-attr]
        deformable=_counted(m for m in modules if any(word in type(m).__name__ for word in _DEFORMABLE)),
        plugins=_counted(getattr(m, name) for m in modules for name in getattr(m, "plugin_names", ())),
    )


_DEFORMABLE = ("Deform", "DCN", "SAConv", "SwitchableAtrous")


def _is_convolution(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    sized = all(isinstance(getattr(module, name, None), tuple) for name in ("kernel_size", "dilation"))
    return sized and isinstance(weight, Parameter) and weight.ndim >= 3


def _frozen(parameters: Collection[Parameter]) -> str:
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    if not frozen:
        return ""
    if all(not parameter.requires_grad for parameter in parameters):
        return "all"
    return "norms" if all(parameter.ndim == 1 for parameter in frozen) else "part"


def _counted(modules: Iterable[nn.Module]) -> dict[str, int]:
    return dict(Counter(type(module).__name__ for module in modules))
