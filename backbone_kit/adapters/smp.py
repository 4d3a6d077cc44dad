"""For segmentation_models_pytorch."""

from __future__ import annotations

from functools import partial

from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from ..backbones import Backbone, FeatureInfo
from ..errors import ConfigError
from .given import check_backbone


def as_smp(backbone: Backbone, name: str = "backbone_kit") -> str:
    """Registers a backbone as an encoder: `smp.Unet(as_smp(backbone), encoder_weights=None)`.

    Levels of all strides are used, the last of each, whatever `out_indices` says. DeepLabV3+ and others that ask for
    an output stride need a backbone that was built with it (`output_stride=16`). Where there is no map of stride 2, one
    of no channels is.

    Args:
        backbone: What gives the maps; a model that is built with the name holds it, not a copy.
        name: The encoder's name; another backbone may have it before.

    Returns:
        `name`.

    Raises:
        ConfigError: `backbone` is no Backbone.
    """
    check_backbone(backbone, "feature_info", "forward_intermediates")
    encoders[name] = dict(encoder=partial(Encoder, backbone), pretrained_settings={}, params={})
    return name


class Encoder(nn.Module, EncoderMixin):  # type: ignore[misc]
    """The picture and, for each of `depth` halvings, a map; beyond `output_stride`, halvings are dilations.

    Args:
        backbone: What gives the maps.
        depth: How many halvings.
        output_stride: Stride of the last maps, where the halvings go further.

    Raises:
        ConfigError: The backbone has not as many maps of a stride.
    """

    def __init__(self, backbone: Backbone, depth: int, output_stride: int) -> None:
        super().__init__()
        self.body, self._depth, self._output_stride = backbone, depth, output_stride
        self._in_channels = next(layer.in_channels for layer in backbone.modules() if isinstance(layer, nn.Conv2d))
        strides = [min(2**k, output_stride) for k in range(1, depth + 1)]
        self.levels: list[FeatureInfo | None] = []
        for stride in sorted({*strides}):
            there = [level for level in backbone.feature_info if level.stride == stride]
            needed = strides.count(stride)
            if len(there) < needed and stride > 2:
                has = [level.stride for level in backbone.feature_info]
                cure = f"build it with output_stride={output_stride}, or ask for another depth"
                raise ConfigError(f"needs {needed} map(s) of stride {stride}, the backbone has {has}; {cure}")
            self.levels += there[-needed:] or [None]
        self.used_levels = [level.name for level in self.levels if level]
        self._out_channels = [self._in_channels, *(level.channels if level else 0 for level in self.levels)]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Nothing to do where the backbone was built for these pictures; refused otherwise."""
        if in_channels != self._in_channels:
            raise ConfigError(f"the backbone takes {self._in_channels}, got {in_channels}", ("in_channels",))

    def make_dilated(self, output_stride: int) -> None:
        """Nothing to do: the backbone was built so, or refused before."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """The picture and its maps, from fine to coarse."""
        maps = self.body.forward_intermediates(x)
        half = (x.shape[0], 0, x.shape[2] // 2, x.shape[3] // 2)
        return [x, *(maps[level.name] if level else x.new_empty(half) for level in self.levels)]
