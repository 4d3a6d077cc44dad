"""SK-ResNet: kernels of two sizes in place of a block's 3x3, and for every channel a choice between them.

Source: Li et al., "Selective Kernel Networks", arXiv 1903.06586, section 3; sizes and blocks as timm has them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..layers import ActivationCfg
from ..layers.selective_kernel import SelectiveKernel
from .base import BACKBONES
from .residual import BN, RELU
from .resnet import ResNet
from .types import ConvCfg, DeformableCfg, NormCfg


@BACKBONES.register_module()
class SKResNet(ResNet):
    """ResNet with a `SelectiveKernel` in place of a bottleneck's 3x3 or of a basic block's first one.

    With `cardinality=32, base_width=4, split_input=False`, a bottleneck is the paper's. Further arguments as `ResNet`.

    Args:
        depth: Number of layers.
        rd_ratio, rd_divisor, keep_3x3, split_input: As `SelectiveKernel` has them.
        conv_cfg, norm_cfg, act_cfg: Types of layers, as `ResNet` has them.

    Raises:
        ConfigError: As `ResNet` and `SelectiveKernel`.
    """

    settled = ("aa_layer", "drop_block_rate")

    def __init__(
        self,
        depth: int,
        *,
        rd_ratio: float = 1 / 16,
        rd_divisor: int = 8,
        keep_3x3: bool = True,
        split_input: bool = True,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        **kwargs: Any,
    ) -> None:
        self._spatial_conv = partial(
            _selective_kernel,
            rd_ratio=rd_ratio,
            rd_divisor=rd_divisor,
            keep_3x3=keep_3x3,
            split_input=split_input,
            conv_cfg=conv_cfg,
            norm_cfg=BN if norm_cfg is None else norm_cfg,
            act_cfg=RELU if act_cfg is None else act_cfg,
        )
        super().__init__(depth, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, **kwargs)

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """As `ResNet`, and what builds the kernels."""
        return {**super().block_args(planes, base_channels), "spatial_conv": self._spatial_conv}


def _selective_kernel(
    in_channels: int,
    out_channels: int,
    *,
    stride: int,
    padding: int,
    dcn: DeformableCfg | None = None,
    **options: Any,
) -> SelectiveKernel:
    """A block's 3x3, whose padding follows from its dilation; deformable in all paths."""
    if dcn is not None and not (dcn.get("fallback_on_stride", False) and stride != 1):
        options["conv_cfg"] = {key: value for key, value in dcn.items() if key != "fallback_on_stride"}
    return SelectiveKernel(in_channels, out_channels, stride=stride, **options)
