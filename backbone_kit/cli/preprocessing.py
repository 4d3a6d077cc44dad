"""How a config wants its pictures: mean, standard deviation and channel order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, Path, dotted

if TYPE_CHECKING:
    from torch import Tensor


FLOAT32_LIMIT = 3e38


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before the backbone sees it.

    Attributes:
        mean: Subtracted, one value a channel, for pixels from 0 to 255, in the order `channel_order`.
        std: Divided by, likewise.
        channel_order: 'RGB' or 'BGR'.
        source: Where this was found, in words.
    """

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    channel_order: str = "RGB"
    source: str = "ImageNet's, because the config names none"

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.channel_order} - ({mean}) / ({std}): {self.source}"

    def __call__(self, picture: Tensor) -> Tensor:
        """Pixels (H, W, 3) in RGB, from 0 to 255, as a batch of one (1, 3, H, W)."""
        x = picture.permute(2, 0, 1).float()
        x = x.flip(0) if self.channel_order == "BGR" else x
        return ((x - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None])[None]


def find_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """What the config says, in this order: a `data_preprocessor`, `img_norm_cfg`, a `Normalize` step; else ImageNet's.

    OpenMMLab's own rule for the order holds: pictures come as BGR, and `bgr_to_rgb` or `to_rgb` swaps them.

    Raises:
        ConfigError: mean or std are not three finite numbers, a std is not positive, or the swap is no bool.
    """
    for name, swapped in (("data_preprocessor", False), ("img_norm_cfg", True), ("Normalize", True)):
        for path, node in _mappings(config):
            if (path[-1:] == (name,) or _type(node) == name) and node.get("mean") is not None:
                key = "bgr_to_rgb" if "bgr_to_rgb" in node else "to_rgb"
                to_rgb = node.get(key, swapped)
                if not isinstance(to_rgb, bool):
                    raise ConfigError(f"must be true or false, got {to_rgb!r}", (*path, key))
                return _checked(node, path, "RGB" if to_rgb else "BGR")
    return Preprocessing()


def _checked(node: Mapping[str, Any], path: Path, order: str) -> Preprocessing:
    values = {}
    for key in ("mean", "std"):
        value = node.get(key)
        if not isinstance(value, Sequence) or [_is_number(item) for item in value] != [True] * 3:
            raise ConfigError(f"must be three finite numbers, one a channel, got {value!r}", (*path, key))
        values[key] = tuple(map(float, value))
    if min(values["std"]) <= 0:
        raise ConfigError(f"must be positive, got {node['std']!r}", (*path, "std"))
    scale = 255.0 if 0 < max(values["mean"]) <= 1 and max(values["std"]) <= 1 else 1.0  # torchvision counts pixels 0..1
    mean, std = (tuple(scale * value for value in values[key]) for key in ("mean", "std"))
    return Preprocessing(mean, std, order, dotted(path))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < FLOAT32_LIMIT  # nan is not


def _mappings(node: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """All dicts in a config, the outer ones first."""
    if isinstance(node, Mapping):
        yield path, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, item in items:
        yield from _mappings(item, (*path, key))


def _type(node: Mapping[str, Any]) -> str:
    kind = node.get("type")
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")
