"""The block of the GhostNets, with timm's state-dict keys.

Source: Han et al., GhostNet, arXiv 1911.11907, section 3.2 and figure 3; Tang et al., GhostNetV2, arXiv 2211.12905,
section 3.3; Liu et al., GhostNetV3, arXiv 2404.11202, section 3.1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import located
from ..layers import ActivationCfg, GhostModule, build_activation_layer
from ..layers.branches import build_branch, merged_branches, sum_of_branches
from ..layers.channels import make_divisible
from ..layers.conv_norm import Chain, run_layers
from ..layers.ghost import conv_norm, same_padding
from ..layers.ghost_branches import NUM_BRANCHES, GhostBranches
from ..recompute import recompute
from .types import ConvCfg, NormCfg


class GhostBottleneck(nn.Module):
    """x + f(x), f = Ghost module, depthwise where there is a stride, squeeze and excitation, linear Ghost module.

    Args:
        in_channels: Channels of the input.
        mid_channels: Channels inside.
        out_channels: Channels of the output.
        kernel_size: Side, in pixels, of the kernel that has the stride, here and in the shortcut; odd.
        stride: Its stride.
        dilation: Dilation of the input.
        dilates: Whether the stride becomes dilation: the output is as large as the input, and what comes behind that
            kernel is dilated `stride` times as much.
        se_ratio: Channels inside of squeeze and excitation over those of the map; 0: there is none.
        attention: Whether the first Ghost module has the attention of GhostNetV2.
        branches: Whether convolutions are several branches, as in GhostNetV3, until `merge`.
        with_cp: Whether the block is recomputed in backward.
        conv_cfg: Type of the convolutions, but for those of squeeze and excitation.
        norm_cfg: Type of the norms.
        act_cfg: Type of the activations.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        dilation: int,
        dilates: bool,
        se_ratio: float,
        attention: bool,
        branches: bool,
        with_cp: bool,
        conv_cfg: ConvCfg | None,
        norm_cfg: NormCfg,
        act_cfg: ActivationCfg,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.strided = stride > 1
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        shape: dict[str, Any] = dict(stride=1 if dilates else stride, dilation=dilation)
        spatial: dict[str, Any] = dict(kernel_size=kernel_size, padding=same_padding(kernel_size, dilation), **shape)
        ghost: Any = GhostBranches if branches else partial(GhostModule, kernel_size=1, bias=False)

        self.ghost1 = ghost(in_channels, mid_channels, dilation=dilation, attention=attention, act_cfg=act_cfg, **types)
        self.dw_rpr_scale: nn.Module | None = None
        if self.strided and branches:
            branch = partial(build_branch, mid_channels, mid_channels, groups=mid_channels, **types)
            self.dw_rpr_conv = nn.ModuleList(branch(**spatial) for _ in range(NUM_BRANCHES))
            self.dw_rpr_scale = branch(kernel_size=1, **shape)
        elif self.strided:
            self.conv_dw, self.bn_dw = conv_norm(mid_channels, mid_channels, groups=mid_channels, **spatial, **types)
        self.se = SqueezeExcite(mid_channels, se_ratio, act_cfg) if se_ratio else None
        self.ghost2 = ghost(mid_channels, out_channels, dilation=dilation * stride if dilates else dilation, **types)
        self.shortcut = Chain()
        if self.strided or in_channels != out_channels:
            self.shortcut.extend(conv_norm(in_channels, in_channels, groups=in_channels, **spatial, **types))
            self.shortcut.extend(conv_norm(in_channels, out_channels, kernel_size=1, **types))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride), rounded up."""
        return recompute(self, self._sum, x) if self.with_cp else self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        out: Tensor = self.ghost1(x)
        if self.dw_rpr_scale is not None:
            out = sum_of_branches(self._dw_branches(), out)
        elif self.strided:
            out = run_layers((self.conv_dw, self.bn_dw), out)
        if self.se is not None:
            out = self.se(out)
        out = self.ghost2(out)
        out += self.shortcut(x)
        return out

    def merge(self) -> None:
        """Merges branches, where there are any: the block computes what it did in eval mode.

        Raises:
            ConfigError: A convolution or a norm cannot be merged; the block is then as it was.
        """
        if not isinstance(self.ghost1, GhostBranches):
            return
        ghosts = self.ghost1.merged(), self.ghost2.merged()
        if self.dw_rpr_scale is not None:
            self.conv_dw, self.bn_dw = merged_branches(self._dw_branches()), nn.Identity().train(self.training)
            self.dw_rpr_scale = None
            del self.dw_rpr_conv
        self.ghost1, self.ghost2 = ghosts

    def _dw_branches(self) -> list[Any]:
        return [self.dw_rpr_scale, *self.dw_rpr_conv]


class SqueezeExcite(nn.Module):
    """x · hardsigmoid(W2 · act(W1 · mean(x))), with W1 and W2 as 1x1 convolutions: `conv_reduce`, `conv_expand`.

    Args:
        channels: Channels C of the map.
        ratio: Channels between over C, before they are rounded to a multiple of 4.
        act_cfg: Type of act.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3; the gate: Howard et al., Searching
    for MobileNetV3, arXiv 1905.02244, section 5.3.
    """

    def __init__(self, channels: int, ratio: float, act_cfg: ActivationCfg) -> None:
        super().__init__()
        between = make_divisible(channels * ratio, 4)
        self.conv_reduce = nn.Conv2d(channels, between, 1)
        with located("act_cfg"):
            self.act1 = build_activation_layer(act_cfg)
        self.conv_expand = nn.Conv2d(between, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The map, scaled per channel; shape (N, C, H, W)."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.conv_expand(self.act1(self.conv_reduce(pooled))))
