"""For torchvision's detectors and segmentation nets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from ..backbones import Backbone
from ..errors import ConfigError


class TorchvisionBackbone(nn.Module):
    """A backbone that gives maps by name, through a feature pyramid or as they are.

    FasterRCNN, MaskRCNN and KeypointRCNN take it as it is; RetinaNet and FCOS with `top='p6p7'`, of `out_indices` from
    stride 8 on; SSD with `fpn=False`; DeepLabV3 and FCN with `fpn=False, names=('aux', 'out')`.

    Args:
        backbone: What gives the maps; it is held, not copied.
        fpn: Whether a feature pyramid follows, which makes all maps equally wide.
        out_channels: Channels of the pyramid's maps.
        top: Coarser maps on top of the pyramid: 'pool' adds one, 'p6p7' adds two by convolutions, None none.
        names: Names of the backbone's maps; None: '0', '1', ...

    Attributes:
        out_channels: Channels of the pyramid's maps; without one, those of the backbone's, a list of several.
        out_strides: Strides of all maps, those on top included.

    Raises:
        ConfigError: The names are not as many as the maps, a pyramid would not go from fine maps to coarse ones, or
            nothing is known by the name `top`.
    """

    def __init__(
        self,
        backbone: Backbone,
        fpn: bool = True,
        out_channels: int = 256,
        top: Literal["pool", "p6p7"] | None = "pool",
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        channels, strides = list(backbone.out_channels), list(backbone.out_strides)
        self.names = [str(i) for i in range(len(strides))] if names is None else list(names)
        if len(self.names) != len(strides):
            raise ConfigError(f"must be {len(strides)}, one for each map, got {self.names}", ("names",))
        if top not in ("pool", "p6p7", None):
            raise ConfigError(f"must be 'pool', 'p6p7' or None, got {top!r}", ("top",))
        if fpn and strides != sorted(strides):
            raise ConfigError(f"a pyramid goes from fine maps to coarse ones, these have strides {strides}", ("fpn",))
        self.body = backbone
        self.fpn: nn.Module | None = None
        self.out_channels = channels[0] if len(channels) == 1 else channels
        if fpn:
            tops = {"pool": LastLevelMaxPool(), "p6p7": LastLevelP6P7(out_channels, out_channels), None: None}
            self.fpn = FeaturePyramidNetwork(channels, out_channels, tops[top])
            self.out_channels = out_channels
            strides += [strides[-1] * 2 ** (k + 1) for k in range({"pool": 1, "p6p7": 2, None: 0}[top])]
        self.out_strides = tuple(strides)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The maps by name."""
        maps = OrderedDict(zip(self.names, self.body(x)))
        return maps if self.fpn is None else self.fpn(maps)


class TrueStrideAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors that stand where the pixels of the maps do, at every size of picture.

    torchvision divides the picture's size by the map's to find a stride, which is off where that leaves a remainder.

    Args:
        backbone: Anything with `out_strides`.
        scale: Side of the smallest square anchor of a map, in strides: 8 for FasterRCNN, 4 for RetinaNet, 1 for FCOS.
        octaves: Sizes a map, between one power of two and the next: 1, RetinaNet 3.
        aspect_ratios: Height by width of the anchors; FCOS: (1.0,).
    """

    def __init__(
        self,
        backbone: TorchvisionBackbone | Backbone,
        scale: float = 8,
        octaves: int = 1,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
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
