"""`Parts`: the layers of a backbone, registered part by part, and the maps that come out of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from ..layers.conv_norm import Chain, run_layers
from ..recompute import unit_ends
from .levels import FeatureInfo, Part

Layers = nn.Module | Mapping[str, nn.Module]


class Parts(nn.Module):
    """A stem and stages, one after the other, and the levels of features that come out on the way.

    Attributes:
        parts: What was added, in the order in which it runs.
        feature_info: The levels, the stem first.
        stem_names, pool_names, stage_names: Names of the stem's layers, the pool's layers, the stages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem_names: tuple[str, ...] = ()
        self.pool_names: tuple[str, ...] = ()
        self.stage_names: tuple[str, ...] = ()
        self.feature_info: tuple[FeatureInfo, ...] = ()
        self.parts: tuple[Part, ...] = ()

    @abstractmethod
    def _added(self, module: nn.Module, position: int) -> None:
        """What happens to a module once it is registered; `position`: 0 for the stem and the pool, k for stage k."""

    def add_stem(self, layers: Layers, *, channels: int, stride: int) -> None:
        """Registers the stem, initialised and, from `frozen_stages=0` on, frozen.

        Args:
            layers: A module, which gets the name 'stem'; or several by their own names, in the order in which they run.
                The map after the last one is the level 'stem'; with {}, that level is the picture.
            channels: Channels of that map.
            stride: Its stride in input pixels.
        """
        layers = _by_name("stem", layers)
        self.stem_names = tuple(layers)
        self._add_part("stem", layers, channels, stride)

    def add_pool(self, layers: Layers, *, stride: int) -> None:
        """Registers what runs between the level 'stem' and the first stage; it freezes with the stem.

        Args:
            layers: A module, which gets the name 'pool', or several by their own; they keep the number of channels.
            stride: Stride of its output in input pixels.
        """
        layers = _by_name("pool", layers)
        self.pool_names = tuple(layers)
        self._add_part("pool", layers, self.feature_info[0].channels, stride, is_level=False)

    def add_stage(
        self,
        name: str,
        stage: Layers,
        *,
        channels: int,
        stride: int,
        out: Mapping[str, nn.Module] | None = None,
        is_level: bool = True,
        blocks: int | None = None,
    ) -> None:
        """Registers the next stage, initialised and, where `frozen_stages` reaches it, frozen.

        Args:
            name: Its name as a level.
            stage: A module from map to map, which gets that name as a layer too; or several by their own names, in the
                order in which they run.
            channels: Channels of its output.
            stride: Stride of its output in input pixels.
            out: Layers by name that its map goes through on its way out, and only there: a norm of each output, say.
            is_level: Whether its output is a level; False where `add_level` says what it gives instead.
            blocks: How many blocks are stacked in it; None: as many modules of one class as it ends with, in
                a Sequential or not.
        """
        if not self.feature_info:
            raise RuntimeError(f"add_stage({name!r}) comes before add_stem; a backbone begins with its stem")
        layers = _by_name(name, stage)
        if blocks is None:
            blocks = len(_stack([*layers.values()])[1])
        self.stage_names += (name,)
        self._add_part(name, layers, channels, stride, out=out, is_level=is_level, blocks=blocks)

    def add_level(
        self,
        name: str,
        layers: Mapping[str, nn.Module],
        *,
        channels: int,
        stride: int,
        out: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Registers one more level of the last stage; it freezes with that stage.

        Args:
            name: Its name.
            layers: Layers by name that run after those before; none where it is another view of the same output.
            channels: Channels of its map.
            stride: Its stride in input pixels.
            out: Layers by name that lead to its map, and to nothing else.
        """
        self._add_part(name, layers, channels, stride, out=out)

    def units(self) -> list[list[nn.Module]]:
        """All modules: those of the stem, then block by block; a stage whose blocks are not one module each is one.

        Where there is no stem, what comes before the first block stands in its place.
        """
        units: list[list[nn.Module]] = [[]]
        for part in self.parts:
            modules = [self.get_submodule(name) for name in part.modules]
            before, blocks = _stack(modules) if part.blocks else ([], [])
            if not part.blocks:
                units[-1] += modules
            elif len(blocks) == part.blocks and any(True for block in blocks for _ in block.parameters()):
                units += [[block] for block in blocks]
                units[-len(blocks) if any(units[: -len(blocks)]) else 0] += before
            else:
                units.append(modules)
            units[-1] += [self.get_submodule(name) for name in part.out]
        return units

    def loose_parameters(self) -> list[nn.Parameter]:
        """Parameters in none of the parts, such as a class token; they freeze with the stem."""
        parts = [self.get_submodule(name) for part in self.parts for name in part.modules + part.out]
        placed = {parameter for module in parts for parameter in module.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in placed]

    def _add_part(
        self,
        name: str,
        layers: Mapping[str, nn.Module],
        channels: int,
        stride: int,
        *,
        out: Mapping[str, nn.Module] | None = None,
        is_level: bool = True,
        blocks: int = 0,
    ) -> None:
        position, out = len(self.stage_names), out or {}
        part = Part(name, tuple(layers), tuple(out), int(channels), int(stride), position, is_level, blocks)
        self.parts += (part,)
        if is_level:
            self.feature_info += (FeatureInfo(name, part.channels, part.stride),)
        for path, module in {**layers, **out}.items():
            self._add(position, path, module)

    def _add(self, position: int, name: str, module: nn.Module) -> None:
        parent: nn.Module = self
        *containers, child = name.split(".")
        for container in containers:
            if container not in parent._modules:
                parent.add_module(container, nn.Sequential())
            parent = parent.get_submodule(container)
        parent.add_module(child, module)
        self._added(module, position)

    def _maps(self, x: Tensor, levels: Collection[int]) -> dict[int, Tensor]:
        """The maps of these levels, the stem's being -1; what comes after the last one does not run."""
        maps: dict[int, Tensor] = {}
        level = -1
        for part in self.parts:
            unit_ends(x, keeps=True)
            x = self._run(part.modules, x)
            if part.is_level:
                if level in levels:
                    maps[level] = self._run(part.out, x)
                if len(maps) == len(levels):
                    break
                level += 1
        return maps

    def _run(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        return run_layers(map(self.get_submodule, names), x)


def _by_name(name: str, layers: Layers) -> Mapping[str, nn.Module]:
    return {name: layers} if isinstance(layers, nn.Module) else layers


def _stack(modules: Sequence[nn.Module]) -> tuple[list[nn.Module], list[nn.Module]]:
    """A stage's modules, the blocks that it ends with apart: modules of one class, each by itself or in Sequentials."""
    kinds = [_kind(module) for module in modules]
    first = next(i for i in range(len(kinds)) if len(set(kinds[i:])) == 1)
    before, last = list(modules[:first]), list(modules[first:])
    if len(last) == 1 and _ends_in_stack(last[0]):
        *others, inner = last[0].children()
        before, last = [*before, *others], [inner]
    if _is_sequence(last[0]):
        return before, [block for module in last for block in module.children()]
    return before, last


def _kind(module: nn.Module) -> frozenset[type]:
    """Its class, or those of what stands in it."""
    return frozenset(type(each) for each in (module.children() if _is_sequence(module) else [module]))


def _ends_in_stack(stage: nn.Module) -> bool:
    """Whether it is some layers and then a Sequential of blocks of one class, as timm's stages are."""
    if isinstance(stage, nn.ModuleList) or [*stage.parameters(recurse=False)]:
        return False
    *_, inner = [stage, *stage.children()]
    return inner is not stage and _is_sequence(inner) and len(_kind(inner)) == 1


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and not isinstance(module, Chain)
