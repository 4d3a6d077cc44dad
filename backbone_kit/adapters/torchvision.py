"""For torchvision's detectors and segmentation nets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from ..backbones import Backbone
from ..errors import ConfigError
from ..layers.ranges import check_positive
from ..signature import check_arguments
from .given import check_backbone

TOPS = {"pool": ("pool",), "p6p7": ("p6", "p7"), None: ()}  # maps on top of a pyramid, as torchvision names them


class TorchvisionBackbone(nn.Module):
    """A backbone that gives maps by name, through a feature pyramid or as they are.

    FasterRCNN, MaskRCNN and KeypointRCNN take it as it is; RetinaNet and FCOS with `top='p6p7'`, of `out_indices` from
    stride 8 on; SSD with `fpn=False`; DeepLabV3 and FCN with `fpn=False, names=('aux', 'out')`.

    Args:
        backbone: What gives the maps; it is held, not copied.
        fpn: Whether a feature pyramid follows, which makes all maps equally wide.
        out_channels: Channels of the pyramid's maps; None: 256.
        top: Coarser maps on top of the pyramid: 'pool' adds one, 'p6p7' adds two by convolutions, None none; 'auto' is
            'pool' where there is a pyramid.
        names: Names of the backbone's maps; None: '0', '1', ...

    Attributes:
        out_channels: Channels of the pyramid's maps; without one, those of the backbone's, a list of several.
        out_strides: Strides of all maps, those on top included.

    Raises:
        ConfigError: `backbone` is none, an argument is out of range or says how a pyramid is where there is none, two
            maps have one name, or a pyramid would not go from fine maps to coarse ones. In a forward: the backbone
            gives maps of more pictures than it takes, as TridentResNet does in training.
    """

    def __init__(
        self,
        backbone: Backbone,
        fpn: bool = True,
        out_channels: int | None = None,
        top: Literal["auto", "pool", "p6p7", None] = "auto",
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_backbone(backbone, "out_channels", "out_strides")
        _check(TorchvisionBackbone, fpn=fpn, out_channels=out_channels, top=top, names=names)
        check_positive(out_channels=out_channels)
        if not fpn:
            _check_without_pyramid(out_channels=out_channels, top=None if top == "auto" else top)
        on_top = ("pool" if top == "auto" else top) if fpn else None
        channels, strides = list(backbone.out_channels), list(backbone.out_strides)
        self.names = [str(i) for i in range(len(strides))] if names is None else list(names)
        _check_names(self.names, len(strides), TOPS[on_top])
        if fpn and strides != sorted(strides):
            raise ConfigError(f"a pyramid goes from fine maps to coarse ones, these have strides {strides}", ("fpn",))
        self.body = backbone
        self.fpn: nn.Module | None = None
        self.out_channels = channels[0] if len(channels) == 1 else channels
        if fpn:
            width = self.out_channels = out_channels or 256
            tops = {"pool": LastLevelMaxPool, "p6p7": lambda: LastLevelP6P7(width, width), None: lambda: None}
            self.fpn = FeaturePyramidNetwork(channels, width, tops[on_top]())
            strides += [strides[-1] * 2 ** (k + 1) for k in range(len(TOPS[on_top]))]
        self.out_strides = tuple(strides)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The maps by name."""
        maps = OrderedDict(zip(self.names, self.body(x)))
        _check_pictures(maps, x)
        return maps if self.fpn is None else self.fpn(maps)


def _check(adapter: type, **arguments: Any) -> None:
    """Refuses arguments that are not of the kind that the signature says."""
    problems = check_arguments(adapter, arguments, supplied=("backbone",))
    if problems:
        raise ConfigError(problems)


def _check_without_pyramid(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ConfigError(f"is for a pyramid, and fpn=False builds none, got {value!r}; leave it out", (name,))


def _check_names(names: list[str], number: int, on_top: tuple[str, ...]) -> None:
    if len(names) != number:
        raise ConfigError(f"must be {number}, one for each map, got {names}", ("names",))
    if len({*names, *on_top}) < number + len(on_top):
        others = f", and differ from {' and '.join(map(repr, on_top))} on top of the pyramid" if on_top else ""
        raise ConfigError(f"must all differ{others}, got {names}", ("names",))


def _check_pictures(maps: Mapping[str, Tensor], x: Tensor) -> None:
    for name, y in maps.items():
        found, wanted = y.shape[0], x.shape[0]
        if found != wanted:
            raise ConfigError(
                f"map {name!r} has {found} pictures for {wanted}, some for each branch, where torchvision takes one "
                "each; build it with num_branch=1 to train, or with a test_branch_idx from 0 on for eval alone",
                ("backbone",),
            )


class TrueStrideAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors that stand where the pixels of the maps do, at every size of picture.

    torchvision divides the picture's size by the map's to find a stride, which is off where that leaves a remainder.

    Args:
        backbone: Anything with `out_strides`.
        scale: Side of the smallest square anchor of a map, in strides: 8 for FasterRCNN, 4 for RetinaNet, 1 for FCOS.
        octaves: Sizes a map, between one power of two and the next: 1, RetinaNet 3.
        aspect_ratios: Height by width of the anchors; FCOS: (1.0,).

    Raises:
        ConfigError: `backbone` has no strides, or a number is not positive.
    """

    def __init__(
        self,
        backbone: TorchvisionBackbone | Backbone,
        scale: float = 8,
        octaves: int = 1,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        check_backbone(backbone, "out_strides")
        _check(TrueStrideAnchors, scale=scale, octaves=octaves, aspect_ratios=aspect_ratios)
        check_positive(scale=scale, octaves=octaves)
        self.strides = backbone.out_strides
        sizes = tuple(tuple(scale * s * 2 ** (k / octaves) for k in range(octaves)) for s in self.strides)
        super().__init__(sizes, (tuple(aspect_ratios),) * len(sizes))

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each picture, the anchors of all maps, as (K, 4) corners in pixels."""
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        strides = [[torch.full((), s, device=feature_maps[0].device)] * 2 for s in self.strides]
        anchors = torch.cat(self.grid_anchors([list(m.shape[-2:]) for m in feature_maps], strides))
        return [anchors] * len(image_list.image_sizes)


as_torchvision = TorchvisionBackbone
anchors_for = TrueStrideAnchors
