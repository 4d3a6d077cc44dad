"""For detectron2."""

from __future__ import annotations

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone as DetectronBackbone
from torch import Tensor

from ..backbones import Backbone
from .given import check_backbone


class DetectronAdapter(DetectronBackbone):  # type: ignore[misc]
    """A backbone that gives maps by detectron2's names, 'res2' for stage 1, with their channels and strides.

    detectron2's FPN around it asks for pictures that its coarsest stride divides.

    Args:
        backbone: What gives the maps; it is held, not copied.

    Raises:
        ConfigError: It is no Backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        check_backbone(backbone, "out_indices", "out_channels", "out_strides", "size_divisibility")
        self.body = backbone
        self._out_features = [f"res{index + 2}" for index in backbone.out_indices]

    @property
    def size_divisibility(self) -> int:
        """What H and W must be multiples of; 0: any size."""
        return self.body.size_divisibility if self.body.size_divisibility > 1 else 0

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of the maps."""
        shapes = zip(self.body.out_channels, self.body.out_strides)
        return {name: ShapeSpec(channels=c, stride=s) for name, (c, s) in zip(self._out_features, shapes)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The maps by name."""
        return dict(zip(self._out_features, self.body(x)))


as_detectron2 = DetectronAdapter
