"""ResNet, with the arguments and the state-dict keys of MMDetection's, and the options of timm's.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; variants C and D: He et al., "Bag
of Tricks for Image Classification with Convolutional Neural Networks", arXiv 1812.01187, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from torch import nn

from ..errors import ConfigError
from ..layers import PLUGIN_LAYERS, ActivationCfg, PluginCfg
from ..recompute import Recompute
from .anti_alias import AntiAlias, anti_alias
from .base import BACKBONES, Backbone
from .blocks import BasicBlock, Bottleneck
from .ranges import check_range, per_stage
from .residual import BN, RELU, PluginEntry, ResidualBlock, Style, warn_of_gammas_left_out
from .specs import stage_specs
from .stage import StageSpec, build_downsample, build_stage
from .stem import max_pool, pool_conv, single_conv, stem_widths, triple_3x3
from .types import ConvCfg, DeformableCfg, NormCfg
from .weights import InitCfg

Kind = Literal["basic", "bottleneck"]
KINDS: dict[str, type[ResidualBlock]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


@BACKBONES.register_module()
class ResNet(Backbone):
    """ResNet-18, 34, 50, 101, 152 and their kin: wide, deep-stemmed, anti-aliased, with attention.

    Args:
        depth: Number of layers, one of `arch_settings`: it says which blocks there are, and how many.
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
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.
        layers: Blocks of each stage; None: as `depth` says.
        block: 'basic' or 'bottleneck', or one of them for each stage; None: as `depth` says.
        planes: Width of each stage; None: as `base_channels` says.
        cardinality: Groups of a bottleneck's 3x3.
        base_width: Width of each of these groups where the stage's is `base_channels`; None: one group has all.
        stem_type: '' for the 7x7, 'deep' as `deep_stem`, 'deep_tiered' with a first width of 3/4; None: as `deep_stem`.
        stem_width: Channels of a deep stem's second map, half of its last; None: half of `stem_channels`.
        replace_stem_pool: A 3x3 convolution in place of the pool behind the stem (ResNet-RS).
        block_reduce_first: How many times fewer channels a block's first convolution has.
        down_kernel_size: Side of the convolutions in shortcuts with a stride.
        aa_layer: What has the strides in place of 3x3s and of the stem's pool: 'avg' or 'blur'; None: nothing.
        attn_layer: A plugin at the end of each block, as a name, 'se' or 'eca', or a dict with `type`.
        drop_block_rate: DropBlock probability in the third and fourth stage.

    Attributes:
        depth, num_stages, base_channels, style: As given.
        stem_channels: Channels of the stem's map.
        res_layers: Names of the stages, 'layer1' and so on.
        feat_dim: Channels of the last stage's map.

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
        10: (BasicBlock, (1, 1, 1, 1)),
        14: (Bottleneck, (1, 1, 1, 1)),
        18: (BasicBlock, (2, 2, 2, 2)),
        26: (Bottleneck, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
        200: (Bottleneck, (3, 24, 36, 3)),
        269: (Bottleneck, (3, 30, 48, 8)),
        270: (Bottleneck, (4, 29, 53, 4)),
        350: (Bottleneck, (4, 36, 72, 4)),
        420: (Bottleneck, (4, 44, 87, 4)),
    }

    first_block_args: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What the first block of each stage is built with beside the others; a family's own."""

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
        recompute: Recompute | None = None,
        layers: Sequence[int] | None = None,
        block: Kind | Sequence[Kind] | None = None,
        planes: Sequence[int] | None = None,
        cardinality: int = 1,
        base_width: int | None = None,
        stem_type: Literal["", "deep", "deep_tiered"] | None = None,
        stem_width: int | None = None,
        replace_stem_pool: bool = False,
        block_reduce_first: int = 1,
        down_kernel_size: Literal[1, 3] = 1,
        aa_layer: AntiAlias | None = None,
        attn_layer: str | PluginCfg | None = None,
        drop_block_rate: float = 0.0,
    ) -> None:
        kinds, depths = self._architecture(depth, layers, block, num_stages)
        super().__init__(
            num_stages=num_stages,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        check_range("in_channels", in_channels)
        check_range("base_channels", base_channels)
        check_range("cardinality", cardinality)
        for index, width in enumerate(planes or ()):
            check_range("planes", width, path=(index,))
        check_range("block_reduce_first", block_reduce_first)
        if (cardinality > 1 or base_width is not None) and BasicBlock in kinds:
            name = "cardinality" if cardinality > 1 else "base_width"
            raise ConfigError("is for bottlenecks; a BasicBlock's 3x3s have one group, as wide as the stage", (name,))
        if isinstance(attn_layer, str):
            attn_layer = {"type": attn_layer}
            problems = PLUGIN_LAYERS.check(attn_layer, ("attn_layer",))
            if problems:
                raise ConfigError(problems)
        self.cardinality, self.base_width = cardinality, base_width
        self.depth, self.base_channels, self.style = depth, base_channels, style
        self.zero_init_residual = zero_init_residual
        act_cfg = RELU if act_cfg is None else act_cfg
        types: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": BN if norm_cfg is None else norm_cfg}
        smooth = None if aa_layer is None else partial(anti_alias, aa_layer)

        widths = stem_widths(base_channels, stem_channels, stem_width, stem_type, deep_stem)
        self.stem_channels = widths[-1]
        stride = self.add_first_layers(in_channels, widths, replace_stem_pool, smooth, act_cfg=act_cfg, **types)

        specs = stage_specs(
            kinds,
            depths,
            per_stage("planes", planes, num_stages, [base_channels * 2**i for i in range(num_stages)]),
            strides=strides,
            dilations=dilations,
            output_stride=output_stride,
            contract_dilation=contract_dilation,
            multi_grid=multi_grid,
            drop_path_rate=drop_path_rate,
            drop_block_rate=drop_block_rate,
            dcn=dcn,
            stage_with_dcn=stage_with_dcn,
            plugins=plugins,
            attn_layer=attn_layer,
            block_args=partial(self.block_args, base_channels=base_channels),
            first_block_args=self.first_block_args,
        )
        shared = {"style": style, "with_cp": with_cp, "act_cfg": act_cfg, **types}
        if block_reduce_first > 1:
            shared["reduce_first"] = block_reduce_first
        downsample = partial(self.build_shortcut, avg_down=avg_down, kernel_size=down_kernel_size, **types)
        channels = self.stem_channels
        self.res_layers = [f"layer{index + 1}" for index in range(self.stages_to_build)]
        for name, spec in zip(self.res_layers, self.adapted(specs)):
            stride *= spec.stride
            stage = build_stage(spec, channels, downsample, self.block_pool(smooth), **shared)
            self.add_stage(name, stage, channels=spec.channels, stride=stride)
            channels = spec.channels
        self.feat_dim = channels
        if zero_init_residual:
            warn_of_gammas_left_out(self.trained_modules())

    def add_first_layers(
        self,
        in_channels: int,
        widths: tuple[int, ...],
        replace_pool: bool,
        anti_alias: Callable[[int, int], nn.Module] | None,
        **types: Any,
    ) -> int:
        """Adds what runs before the stages, and returns its stride; for families that begin in another way.

        Args:
            in_channels: Channels of the picture.
            widths: Channels of the stem's maps: three, or one.
            replace_pool: Whether a convolution is in place of the pool.
            anti_alias: Builds what has the pool's stride, from (channels, stride).
            **types: `conv_cfg`, `norm_cfg` and `act_cfg`.
        """
        stem = triple_3x3 if len(widths) == 3 else single_conv
        self.add_stem(stem(in_channels, widths, **types), channels=widths[-1], stride=2)
        channels = widths[-1]
        pool = pool_conv(channels, anti_alias, **types) if replace_pool else max_pool(channels, anti_alias)
        self.add_pool({"maxpool": pool}, stride=4)
        return 4

    @classmethod
    def _architecture(
        cls, depth: int, layers: Sequence[int] | None, block: Kind | Sequence[Kind] | None, num_stages: int
    ) -> tuple[tuple[type[ResidualBlock], ...], tuple[int, ...]]:
        """Class of the blocks and their number, for each stage."""
        if depth not in cls.arch_settings:
            allowed = ", ".join(map(str, cls.arch_settings))
            raise ConfigError(f"must be one of {allowed}, got {depth!r}", ("depth",))
        kind, depths = cls.arch_settings[depth]
        if layers is None and not 1 <= num_stages <= len(depths):
            raise ConfigError(f"must be from 1 to {len(depths)}, got {num_stages!r}", ("num_stages",))
        kinds = [KINDS[name] for name in ([block] * num_stages if isinstance(block, str) else block or ())]
        for index, blocks in enumerate(layers or ()):
            check_range("layers", blocks, path=(index,))
        counts = per_stage("layers", layers, num_stages, depths[:num_stages])
        return per_stage("block", kinds or None, num_stages, (kind,) * num_stages), counts

    def block_args(self, planes: int, base_channels: int) -> dict[str, Any]:
        """What the blocks of a stage are built with beside what all stages share; a family's own numbers.

        Args:
            planes: Width of the stage.
            base_channels: Width of the first stage.
        """
        if self.cardinality == 1 and self.base_width is None:
            return {}
        of_group = base_channels if self.base_width is None else self.base_width
        width = planes * of_group // base_channels
        if width < 1:
            raise ConfigError(f"{of_group} leaves no channels at {planes} planes", ("base_width",))
        return {"width": width * self.cardinality, "groups": self.cardinality}

    def block_pool(self, anti_alias: Callable[[int, int], nn.Module] | None) -> Callable[[int, int], nn.Module] | None:
        """What builds the pool that has a 3x3's stride in its place, from (channels, stride); None: nothing has it.

        Args:
            anti_alias: As `aa_layer` says; a family may have another.
        """
        return anti_alias

    def build_shortcut(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        """The shortcut of a stage's first block: `build_downsample`, unless a family has another."""
        return build_downsample(*args, **kwargs)

    def adapted(self, specs: list[StageSpec]) -> list[StageSpec]:
        """The stages as a family wants them, where one of them is not like the others."""
        return specs

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
