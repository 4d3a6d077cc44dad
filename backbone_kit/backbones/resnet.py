"""ResNet, with the arguments and the state-dict keys of MMDetection's.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; variants C and D: He et al., "Bag
of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187, section 4.2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import nn

from ..errors import ConfigError
from ..layers import ActivationCfg
from .base import BACKBONES, Backbone
from .blocks import BasicBlock, Bottleneck
from .residual import BN, RELU, PluginEntry, ResidualBlock, Style
from .specs import check_range, stage_specs
from .stage import build_downsample, build_stage
from .stem import single_7x7, triple_3x3
from .types import ConvCfg, DeformableCfg, NormCfg
from .weights import InitCfg


@BACKBONES.register_module()
class ResNet(Backbone):
    """ResNet-18, 34, 50, 101 and 152.

    Args:
        depth: Number of layers: 18, 34, 50, 101 or 152.
        in_channels: Channels of the picture.
        stem_channels: Channels of the stem's map; None: `base_channels`.
        base_channels: Width of the first stage; stage i (from 0) has `base_channels * 2**i`, and a bottleneck's output
            four times that.
        num_stages: How many stages there are, 1 to 4.
        strides: Stride of the first block of each stage; None: 1, then 2s.
        dilations: Dilation of the 3x3s of each stage; None: 1s.
        out_indices: Stages whose maps are returned, in this order; None: all.
        style: Which convolution of a bottleneck has the stride: the 3x3 ('pytorch') or the first 1x1 ('caffe').
        deep_stem: Three 3x3 convolutions in place of the stem's 7x7 (ResNet-C).
        avg_down: An average pool in place of the shortcut's stride (ResNet-D).
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_cfg: Type of the norms; None: BatchNorm.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        dcn: Type of the 3x3 convolutions where `stage_with_dcn` says so: 'DCN' or 'DCNv2', and `fallback_on_stride` for
            a plain convolution where the stride is not 1.
        stage_with_dcn: For each stage, whether it gets `dcn`.
        plugins: Layers to put into the blocks: dicts with `cfg`, `position` and `stages`.
        with_cp: Whether blocks are recomputed in backward, for less memory.
        zero_init_residual: Whether each block starts as the identity, its last gamma at 0; None: wherever that gamma
            trains.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        multi_grid: Dilation of each block of the last stage, in place of that stage's.
        contract_dilation: Whether the first block of a dilated stage has half of its dilation; None: as `output_stride`
            needs.
        output_stride: Input pixels per pixel of the last map, 8, 16 or 32: later strides turn into dilation, and a
            first block keeps the dilation of the stage before. Not together with `strides` or `dilations`.
        act_cfg: Type of the activations; None: ReLU.
        drop_path_rate: Drop-path probability of the last block; it grows linearly from 0 at the first.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt; otherwise they are there,
            as in MMDetection, and never run, which DDP takes for unused parameters.

    Raises:
        ConfigError: An argument is out of range, of the wrong length, or contradicts another.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded up.

    Examples:
        >>> import torch
        >>> net = ResNet(18, out_indices=(1, 3)).eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 96))], net.out_strides
        ([(1, 128, 8, 12), (1, 512, 2, 3)], (8, 32))
    """

    arch_settings: ClassVar[dict[int, tuple[type[ResidualBlock], tuple[int, ...]]]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        out_indices: Sequence[int] | None = None,
        style: Style = "pytorch",
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        norm_eval: bool = True,
        dcn: DeformableCfg | None = None,
        stage_with_dcn: Sequence[bool] | None = None,
        plugins: Sequence[PluginEntry] | None = None,
        with_cp: bool = False,
        zero_init_residual: bool | None = None,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        *,
        multi_grid: Sequence[int] | None = None,
        contract_dilation: bool | None = None,
        output_stride: Literal[8, 16, 32] | None = None,
        act_cfg: ActivationCfg | None = None,
        drop_path_rate: float = 0.0,
        prune_stages: bool = False,
    ) -> None:
        block, depths = self._architecture(depth, num_stages)
        super().__init__(
            num_stages=num_stages,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        check_range("in_channels", in_channels)
        check_range("base_channels", base_channels)
        stem_channels = base_channels if stem_channels is None else stem_channels
        check_range("stem_channels", stem_channels, 2 if deep_stem else 1)
        self.zero_init_residual = zero_init_residual
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=BN if norm_cfg is None else norm_cfg)

        stem = triple_3x3 if deep_stem else single_7x7
        layers = stem(in_channels, stem_channels, act_cfg=RELU if act_cfg is None else act_cfg, **types)
        self.add_stem(layers, channels=stem_channels, stride=2)
        self.add_pool({"maxpool": nn.MaxPool2d(3, stride=2, padding=1)}, stride=4)

        block.check_positions(plugins)
        make_block = partial(block, style=style, with_cp=with_cp, act_cfg=act_cfg, **types)
        downsample = partial(build_downsample, avg_down=avg_down, **types)
        specs = stage_specs(
            depths,
            base_channels=base_channels,
            strides=strides,
            dilations=dilations,
            output_stride=output_stride,
            contract_dilation=contract_dilation,
            multi_grid=multi_grid,
            drop_path_rate=drop_path_rate,
            dcn=dcn,
            stage_with_dcn=stage_with_dcn,
            plugins=plugins,
            block_args=self.block_args,
        )
        channels, stride = stem_channels, 4
        for index, spec in enumerate(specs[: self.stages_to_build]):
            outplanes = spec.planes * block.expansion
            stride *= spec.stride
            stage = build_stage(make_block, spec, channels, outplanes, downsample)
            self.add_stage(f"layer{index + 1}", stage, channels=outplanes, stride=stride)
            channels = outplanes
        if zero_init_residual:
            self._warn_of_gammas_left_out()

    @classmethod
    def _architecture(cls, depth: int, num_stages: int) -> tuple[Any, tuple[int, ...]]:
        if depth not in cls.arch_settings:
            allowed = ", ".join(map(str, cls.arch_settings))
            raise ConfigError(f"must be one of {allowed}, got {depth!r}", ("depth",))
        block, depths = cls.arch_settings[depth]
        if not 1 <= num_stages <= len(depths):
            raise ConfigError(f"must be from 1 to {len(depths)}, got {num_stages!r}", ("num_stages",))
        return block, depths[:num_stages]

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """What the blocks of a stage are built with beside what all stages share; a family's own numbers.

        Args:
            planes: Width of the stage.
            base_channels: Width of the first stage.
        """
        return {}

    @property
    def norm1(self) -> nn.Module:
        """The norm of the stem's 7x7 convolution; a deep stem has none of this name, but stem[1], stem[4], stem[7]."""
        if "conv1" not in self.stem_names:
            raise AttributeError("norm1")
        return self.get_submodule(self.stem_names[1])

    def default_init(self, module: nn.Module) -> None:
        """As every backbone; then the last gamma of each block, as `zero_init_residual` says."""
        super().default_init(module)
        if self.zero_init_residual is not False:
            for block in module.modules():
                if isinstance(block, ResidualBlock):
                    block.zero_init_last()

    def _warn_of_gammas_left_out(self) -> None:
        """Says that `zero_init_residual=True` left out blocks; those of frozen stages are left out in silence."""
        trained = [self.get_submodule(name) for name in self.stage_names[max(self.frozen_stages, 0) :]]
        blocks = [block for stage in trained for block in stage.modules() if isinstance(block, ResidualBlock)]
        if not all(block.last_gamma_trains() for block in blocks):
            warnings.warn(
                "zero_init_residual=True leaves out blocks whose last gamma cannot train (it is frozen, or there is "
                "none): at 0, they would never learn anything",
                stacklevel=3,
            )


@BACKBONES.register_module()
class ResNetV1c(ResNet):
    """ResNet with three 3x3 convolutions as its stem; arguments as `ResNet`."""

    def __init__(self, depth: int, *args: Any, deep_stem: bool = True, **kwargs: Any) -> None:
        super().__init__(depth, *args, deep_stem=deep_stem, **kwargs)  # type: ignore[misc]


@BACKBONES.register_module()
class ResNetV1d(ResNet):
    """ResNet-C with an average pool in place of the shortcut's stride; arguments as `ResNet`."""

    def __init__(self, depth: int, *args: Any, deep_stem: bool = True, avg_down: bool = True, **kwargs: Any) -> None:
        super().__init__(depth, *args, deep_stem=deep_stem, avg_down=avg_down, **kwargs)  # type: ignore[misc]
