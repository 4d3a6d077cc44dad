"""For what takes timm's `features_only` nets."""

from __future__ import annotations

from timm.models import FeatureInfo
from torch import Tensor, nn

from ..backbones import Backbone
from .given import check_backbone


class TimmFeatures(nn.Module):
    """A backbone with timm's `feature_info`, which returns a list.

    Indices count the stem as 0, as timm's do, and the maps come in the order of `feature_info`.

    Args:
        backbone: What gives the maps; it is held, not copied.

    Raises:
        ConfigError: It is no Backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        check_backbone(backbone, "describe", "feature_info", "out_indices")
        self.body = backbone
        modules = {part["name"]: part["modules"][-1] for part in backbone.describe()}
        self.feature_info = FeatureInfo(
            [
                dict(num_chs=level.channels, reduction=level.stride, module=f"body.{modules.get(level.name, '')}")
                for level in backbone.feature_info
            ],
            tuple(index + 1 for index in backbone.out_indices),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of `feature_info.out_indices`."""
        return list(self.body(x))


as_timm = TimmFeatures
