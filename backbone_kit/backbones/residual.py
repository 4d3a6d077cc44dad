"""`ResidualBlock`: the sum of a shortcut and a residual branch, with plugins between the layers of the branch."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, TypedDict, get_args

from torch import Tensor, nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg, DropPath, PluginCfg, build_activation_layer, build_norm_layer
from ..layers.conv_norm import add, conv_norm
from ..layers.plugin import build_plugin_layer
from ..recompute import recompute
from .types import NormCfg

BN = {"type": "BN", "requires_grad": True}
RELU = {"type": "ReLU", "inplace": True}

Style = Literal["pytorch", "caffe"]
Position = Literal["after_norm1", "after_conv1", "after_norm2", "after_conv2", "after_conv3"]


class _PluginPlace(TypedDict):
    cfg: PluginCfg
    position: Position


class PluginEntry(_PluginPlace, total=False):
    """An entry of `plugins`: the plugin's `cfg`, its `position` in a block, the `stages` that get it (None: all)."""

    stages: Sequence[bool] | None


class ResidualBlock(nn.Module, ABC):
    """x + f(x), then an activation. A subclass builds f's layers and writes `residual`.

    Args:
        style: 'pytorch' or 'caffe'; a subclass says which convolution has the stride.
        with_cp: Whether the block is recomputed in backward.
        drop_path: Probability that f(x) is dropped for a picture while training.
        init_cfg: Must be None: the backbone initialises its blocks.

    Attributes:
        expansion: Output channels over `planes`.
        positions: Where plugins may stand, in the order in which they run: 'after_norm1' is behind the first norm,
            'after_conv1' behind the activation that follows it.
        inner: The position behind the last norm that an activation follows.

    Raises:
        ConfigError: `style` is unknown, or `init_cfg` is given.
    """

    expansion: ClassVar[int]
    positions: ClassVar[tuple[Position, ...]]
    inner: ClassVar[Position]

    def __init__(self, *, style: Style, with_cp: bool, drop_path: float, init_cfg: None) -> None:
        super().__init__()
        if style not in get_args(Style):
            raise ConfigError(f"must be 'pytorch' or 'caffe', got {style!r}", ("style",))
        if init_cfg is not None:
            raise ConfigError("a block takes no init_cfg; give it to the backbone", ("init_cfg",))
        self.with_cp = with_cp
        self.drop_path = DropPath(drop_path) if drop_path else None
        self.norm_names: dict[int, str] = {}
        self.pool: nn.Module | None = None
        self._pooled = 0
        self._convs = 0
        self._plugins: dict[str, list[str]] = {position: [] for position in self.positions}

    @abstractmethod
    def before_last(self, x: Tensor) -> Tensor:
        """f(x) up to its last convolution."""

    def residual(self, x: Tensor) -> Tensor:
        """f(x), without the last activation."""
        return self.plugged(self.positions[-1], self.conv_norm(self._convs, self.before_last(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inplanes, H, W) to (N, planes * expansion, H / stride, W / stride)."""
        if self.with_cp:
            y: Tensor = self.relu(recompute(self, self._sum, x))
        elif self.drop_path is not None or self._plugins[self.positions[-1]]:
            y = self.relu(self._sum(x))
        else:
            y = self.conv_norm(self._convs, self.before_last(x), self.relu, self.shortcut(x))
        return y

    def _sum(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.drop_path is not None:
            out = self.drop_path(out)
        return add(out, self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """What f(x) is added to."""
        y: Tensor = x if self.downsample is None else self.downsample(x)
        return y

    def add_conv_norm(self, conv: nn.Module, norm_cfg: NormCfg, channels: int, index: int | None = None) -> None:
        """Registers the next convolution of f and its norm, as `conv1` and `bn1`, `conv2` and `bn2`, …; or the i-th."""
        self._convs = self._convs if index is None else index - 1
        self.add_conv(conv)
        with located("norm_cfg"):
            name, norm = build_norm_layer(norm_cfg, channels, postfix=self._convs)
        self.add_module(name, norm)
        self.norm_names[self._convs] = name

    def add_conv(self, conv: nn.Module) -> None:
        """Registers the next convolution of f, one that has its own norm and activation inside."""
        self._convs += 1
        self.add_module(f"conv{self._convs}", conv)

    def add_pool(self, pool: nn.Module | None) -> None:
        """Registers a pool that runs behind the activation of the convolution added last."""
        self.pool, self._pooled = pool, self._convs

    def conv_norm(self, index: int, x: Tensor, act: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """The i-th convolution of f, counted from 1, with its norm; what is added then, and what follows."""
        return conv_norm(getattr(self, f"conv{index}"), self.norm(index), x, act, shortcut)

    def layer(self, index: int, x: Tensor) -> Tensor:
        """The i-th convolution with all that follows it: norm, activation, pool, and the plugins between them."""
        if index in self.norm_names and not self._plugins.get(f"after_norm{index}"):
            x = self.conv_norm(index, x, self.relu)
        elif index in self.norm_names:
            x = self.relu(self.plugged(f"after_norm{index}", self.conv_norm(index, x)))
        else:
            x = getattr(self, f"conv{index}")(x)
        if index == self._pooled and self.pool is not None:
            x = self.pool(x)
        return self.plugged(f"after_conv{index}", x)

    def norm(self, index: int) -> nn.Module:
        """The registered norm, looked up by name, so that tools that replace norms are heard."""
        if index not in self.norm_names:
            raise AttributeError(f"norm{index}")
        module: nn.Module = getattr(self, self.norm_names[index])
        return module

    @property
    def norm1(self) -> nn.Module:
        """The norm of the first convolution."""
        return self.norm(1)

    @property
    def norm2(self) -> nn.Module:
        """The norm of the second convolution."""
        return self.norm(2)

    def add_tail(self, downsample: nn.Module | None, act_cfg: ActivationCfg | None) -> None:
        """Registers the activation, under the name that checkpoints of this format have, and the shortcut."""
        with located("act_cfg"):
            self.relu = build_activation_layer(RELU if act_cfg is None else act_cfg)
        self.downsample = downsample

    def add_plugins(self, plugins: Sequence[PluginEntry | None] | None, channels: Mapping[Position, int]) -> None:
        """Registers plugins, by position and in the given order within one.

        Args:
            plugins: Entries, None for one that is not for this block; `stages` is not looked at here.
            channels: Channels of the map at each position.

        Raises:
            ConfigError: A position is not one of this block's, or two plugins have one name.
        """
        self.check_positions(plugins)
        for position in self.positions:
            for index, entry in enumerate(plugins or ()):
                if entry is not None and entry["position"] == position:
                    self._check_norm(position, index)
                    with located("plugins", index, "cfg"):
                        name, layer = build_plugin_layer(entry["cfg"], in_channels=channels[position])
                    if hasattr(self, name):
                        raise ConfigError(
                            f"a block has one child {name!r} already; tell plugins of one type apart with postfix='_2'",
                            ("plugins", index, "cfg"),
                        )
                    self.add_module(name, layer)
                    self._plugins[position].append(name)
                    if position.startswith("after_norm") and hasattr(self.relu, "inplace"):
                        # A plugin may keep what it gives, for its backward pass.
                        self.relu.inplace = False  # type: ignore[assignment]

    def _check_norm(self, position: Position, index: int) -> None:
        number = int(position[-1])
        if position.startswith("after_norm") and number not in self.norm_names:
            kind = type(getattr(self, f"conv{number}")).__name__
            reason = f"conv{number}, a {kind}, has its norm inside; use 'after_conv{number}', got {position!r}"
            raise ConfigError(reason, ("plugins", index, "position"))

    @property
    def plugin_names(self) -> tuple[str, ...]:
        """The children that are plugins, in the order in which they run."""
        return tuple(name for names in self._plugins.values() for name in names)

    @classmethod
    def check_positions(cls, plugins: Sequence[PluginEntry | None] | None) -> None:
        """Refuses plugins without a layer, or at a position that this block has not.

        Raises:
            ConfigError: With the entry's index.
        """
        for index, entry in enumerate(plugins or ()):
            if entry is None:
                continue
            if not (isinstance(entry, Mapping) and {"cfg", "position"} <= entry.keys()):
                raise ConfigError(f"must be a dict with 'cfg' and 'position', got {entry!r}", ("plugins", index))
            if entry["position"] not in cls.positions:
                allowed = " or ".join(map(repr, cls.positions))
                raise ConfigError(
                    f"must be {allowed} in a {cls.__name__}, got {entry['position']!r}", ("plugins", index, "position")
                )

    def plugged(self, position: str, x: Tensor) -> Tensor:
        """`x` through the plugins at `position`, one after the other."""
        for name in self._plugins.get(position, ()):
            x = getattr(self, name)(x)
        return x

    def zero_init_last(self) -> None:
        """Sets the last gamma of f to 0, and so the block to the identity, where that gamma can train."""
        if self.last_gamma_trains():
            nn.init.zeros_(self.norm(self._convs).weight)  # type: ignore[arg-type]

    def last_gamma_trains(self) -> bool:
        """Whether the last norm of f has a gamma with a gradient."""
        weight = getattr(self.norm(self._convs), "weight", None)
        return isinstance(weight, nn.Parameter) and weight.requires_grad


def warn_of_gammas_left_out(modules: Iterable[nn.Module]) -> None:
    """Says that `zero_init_residual=True` left out blocks, if any in these modules, which are not frozen, cannot train.

    To be called by a backbone's constructor.
    """
    blocks = [block for module in modules for block in module.modules() if isinstance(block, ResidualBlock)]
    if not all(block.last_gamma_trains() for block in blocks):
        warnings.warn(
            "zero_init_residual=True leaves out blocks whose last gamma cannot train (it is frozen, or there is none): "
            "at 0, they would never learn anything",
            stacklevel=3,
        )
