"""ConvNeXt and ConvNeXt V2, with the arguments and the state-dict keys of mmpretrain's.

Source: Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545; V2 (`use_grn=True, layer_scale_init_value=0`): Woo et
al., "ConvNeXt V2", arXiv 2301.00808.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from torch import nn

from ..errors import ConfigError, located
from ..layers import ActivationCfg
from ..layers.channels import make_divisible
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .convnext_block import ConvNeXtBlock, build_act, build_conv, build_norm
from .ranges import check_range, check_rate
from .types import ConvCfg, NormCfg
from .weights import InitCfg

LN2D: NormCfg = {"type": "LN2d", "eps": 1e-6}
GELU: ActivationCfg = {"type": "GELU"}

ArchName = Literal["atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "xlarge", "huge"]
StemType = Literal["patch", "overlap", "overlap_act", "overlap_tiered"]


class Arch(TypedDict):
    """Blocks and channels of each stage."""

    depths: Sequence[int]
    channels: Sequence[int]


def _doubling(*depths: int, width: int) -> Arch:
    return {"depths": depths, "channels": tuple(width * 2**i for i in range(len(depths)))}


ARCHS: dict[str, Arch] = {
    "atto": _doubling(2, 2, 6, 2, width=40),
    "femto": _doubling(2, 2, 6, 2, width=48),
    "pico": _doubling(2, 2, 6, 2, width=64),
    "nano": _doubling(2, 2, 8, 2, width=80),
    "tiny": _doubling(3, 3, 9, 3, width=96),
    "small": _doubling(3, 3, 27, 3, width=96),
    "base": _doubling(3, 3, 27, 3, width=128),
    "large": _doubling(3, 3, 27, 3, width=192),
    "xlarge": _doubling(3, 3, 27, 3, width=256),
    "huge": _doubling(3, 3, 27, 3, width=352),
}


@BACKBONES.register_module()
class ConvNeXt(Backbone):
    """ConvNeXt and ConvNeXt V2.

    There is no map of stride 2: the level 'stem' is the stem's map of stride 4, which is what the first stage gets.

    Args:
        arch: 'atto' to 'huge', or a dict with `depths` and `channels`, one number a stage.
        in_channels: Channels of the picture.
        stem_patch_size: Size and stride of the stem's convolution.
        norm_cfg: Type of the norms; None: LN2d with eps 1e-6.
        act_cfg: Type of the activations; None: GELU.
        linear_pw_conv: Whether the 1x1 layers hold their weights as `nn.Linear` does, (out, in), or as `nn.Conv2d`.
        use_grn: Whether each block has a GRN between its 1x1 layers (V2).
        drop_path_rate: Drop-path probability of the last block; it grows linearly from 0 at the first.
        layer_scale_init_value: Start of the factor on each channel of a block's branch; 0: no such factor.
        out_indices: Stages whose maps are returned, in this order, or one stage; None: all.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k with their output norms.
        gap_before_final_norm: Whether each output is averaged over H and W before its norm. It is then (N, C), and
            strides mean nothing.
        with_cp: Whether blocks are recomputed in backward, for less memory.
        init_cfg: How `init_weights` fills the weights.
        output_norm: Which outputs have a norm of their own, `norm0`, `norm1`, …: 'each', only the 'last' stage's, or
            'none'.
        stem_type: 'patch', or two 3x3 convolutions of stride 2: 'overlap'; with an activation between them,
            'overlap_act'; the first half as wide, 'overlap_tiered'.
        kernel_sizes: Size of the depthwise convolutions, one for all or one a stage.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_eval: Whether BatchNorms, should `norm_cfg` have them, stay on their running statistics.
        pretrained: A checkpoint that `init_weights` loads.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range, of the wrong length, or contradicts another.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded down; with
          `gap_before_final_norm`, of (N, C).

    Examples:
        >>> import torch
        >>> net = ConvNeXt('atto', out_indices=(0, 3), gap_before_final_norm=False).eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 96))], net.out_strides
        ([(1, 40, 16, 24), (1, 320, 2, 3)], (4, 32))
    """

    def __init__(
        self,
        arch: ArchName | Arch = "tiny",
        in_channels: int = 3,
        stem_patch_size: int = 4,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        linear_pw_conv: bool = True,
        use_grn: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: int | Sequence[int] | None = -1,
        frozen_stages: int = -1,
        gap_before_final_norm: bool = True,
        with_cp: bool = False,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        *,
        output_norm: Literal["each", "last", "none"] = "each",
        stem_type: StemType = "patch",
        kernel_sizes: int | Sequence[int] = 7,
        conv_cfg: ConvCfg | None = None,
        norm_eval: bool = False,
        pretrained: str | None = None,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        depths, channels = _checked(ARCHS[arch] if isinstance(arch, str) else arch)
        super().__init__(
            num_stages=len(depths),
            out_indices=(out_indices,) if isinstance(out_indices, int) else out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        check_rate("drop_path_rate", drop_path_rate)
        if gap_before_final_norm and output_norm != "each":
            raise ConfigError(
                f"needs output_norm='each', got {output_norm!r}; set it to False", ("gap_before_final_norm",)
            )
        if stem_type != "patch" and stem_patch_size != 4:
            raise ConfigError(f"must be 4 with stem_type={stem_type!r}, got {stem_patch_size}", ("stem_patch_size",))
        kernels = (kernel_sizes,) * len(depths) if isinstance(kernel_sizes, int) else tuple(kernel_sizes)
        if len(kernels) != len(depths) or any(size % 2 == 0 for size in kernels):
            raise ConfigError(f"needs an odd number, or {len(depths)} of them, got {kernel_sizes}", ("kernel_sizes",))
        types: dict[str, Any] = dict(
            conv_cfg=conv_cfg, norm_cfg=norm_cfg or LN2D, act_cfg=act_cfg or GELU, linear_pw_conv=linear_pw_conv
        )

        stem = _stem(stem_type, in_channels, channels[0], stem_patch_size, types)
        self.add_stem({"downsample_layers.0": stem}, channels=channels[0], stride=stem_patch_size)

        self.brings_new: tuple[str, ...] = ()
        last_block, index = max(sum(depths) - 1, 1), 0
        for stage in range(self.stages_to_build):
            layers: dict[str, nn.Module] = {}
            if stage:
                layers[f"downsample_layers.{stage}"] = nn.Sequential(
                    build_norm(types, channels[stage - 1]),
                    build_conv(types, channels[stage - 1], channels[stage], 2, stride=2),
                )
            layers[f"stages.{stage}"] = nn.Sequential(
                *(
                    ConvNeXtBlock(
                        channels[stage],
                        kernel_size=kernels[stage],
                        use_grn=use_grn,
                        drop_path=drop_path_rate * block / last_block,
                        layer_scale_init_value=layer_scale_init_value,
                        with_cp=with_cp,
                        **types,
                    )
                    for block in range(index, index + depths[stage])
                )
            )
            index += depths[stage]
            out: dict[str, nn.Module] = {}
            is_last = stage == len(depths) - 1
            if stage in self.out_indices and (output_norm == "each" or (output_norm == "last" and is_last)):
                out[f"norm{stage}"] = build_norm(types, channels[stage])
                if gap_before_final_norm:
                    out = {f"gap{stage}": nn.AdaptiveAvgPool2d(1), **out, f"flatten{stage}": nn.Flatten()}
            stride = stem_patch_size * 2**stage
            if output_norm == "each":  # a classifier's weights have the last one alone
                self.brings_new += tuple(name for name in out if name.startswith("norm"))
            self.add_stage(f"stages.{stage}", layers, channels=channels[stage], stride=stride, out=out)

    def default_init(self, module: nn.Module) -> None:
        """Convolutions and linear layers normal with std 0.02, biases 0; norms as PyTorch's (arXiv 2201.03545)."""
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and not layer.weight.is_meta:
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for layer in module.modules():
            if callable(getattr(layer, "init_weights", None)):
                layer.init_weights()  # type: ignore[operator]


def _checked(arch: Arch) -> tuple[tuple[int, ...], tuple[int, ...]]:
    depths, channels = tuple(arch["depths"]), tuple(arch["channels"])
    if not depths or len(depths) != len(channels):
        raise ConfigError(f"needs as many depths as channels, at least one; got {depths} and {channels}", ("arch",))
    with located("arch"):
        for key, values in (("depths", depths), ("channels", channels)):
            for index, value in enumerate(values):
                check_range(key, value, path=(index,))
    return depths, channels


def _stem(stem_type: StemType, in_channels: int, channels: int, patch: int, types: dict[str, Any]) -> nn.Sequential:
    if stem_type == "patch":
        return nn.Sequential(build_conv(types, in_channels, channels, patch, stride=patch), build_norm(types, channels))
    middle = make_divisible(channels // 2) if stem_type == "overlap_tiered" else channels
    return nn.Sequential(
        build_conv(types, in_channels, middle, 3, stride=2, padding=1),
        *([build_act(types)] if stem_type == "overlap_act" else []),
        build_conv(types, middle, channels, 3, stride=2, padding=1),
        build_norm(types, channels),
    )
