"""HRNet: branches at several resolutions side by side, which exchange their maps again and again.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", arXiv 1908.07919, sections
3.1 to 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict

from torch import nn

from ..errors import ConfigError, Problem, located
from ..layers import ActivationCfg, build_activation_layer, build_norm_layer
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .blocks import BasicBlock, Bottleneck
from .branches import Branches, Fusion, Fusions, Transition, UpsampleMode
from .convs import build_conv
from .ranges import check_range
from .residual import BN, RELU, ResidualBlock, warn_of_gammas_left_out
from .stage import StageSpec, build_downsample, build_stage
from .types import ConvCfg, NormCfg
from .weights import InitCfg

STEM_CHANNELS = 64


class BranchesCfg(TypedDict):
    """A stage of `extra`: how often its branches exchange their maps, and the blocks of each branch before that."""

    num_modules: int
    num_branches: int
    block: Literal["BASIC", "BOTTLENECK"]
    num_blocks: Sequence[int]
    num_channels: Sequence[int]


class HRNetExtra(TypedDict):
    """The four stages."""

    stage1: BranchesCfg
    stage2: BranchesCfg
    stage3: BranchesCfg
    stage4: BranchesCfg


class _Numbers(NamedTuple):
    width: int
    first: tuple[int, int] = (4, 64)  # blocks and channels of stage 1
    blocks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)


Arch = Literal["w18_small", "w18_small_v2", "w18", "w30", "w32", "w40", "w44", "w48", "w64"]
ARCHITECTURES: dict[str, _Numbers] = {
    "w18_small": _Numbers(16, first=(1, 32), blocks=2, modules=(1, 1, 1)),
    "w18_small_v2": _Numbers(18, first=(2, 64), blocks=2, modules=(1, 3, 2)),
    **{f"w{width}": _Numbers(width) for width in (18, 30, 32, 40, 44, 48, 64)},
}
STAGES: tuple[Literal["stage1", "stage2", "stage3", "stage4"], ...] = ("stage1", "stage2", "stage3", "stage4")
BLOCKS: dict[str, type[ResidualBlock]] = {"BASIC": BasicBlock, "BOTTLENECK": Bottleneck}


@BACKBONES.register_module()
class HRNet(Backbone):
    """HRNet: four stages, each with one more branch at half the resolution of the one before.

    Its levels are the branches of the last stage, the finest first. Stages are 'layer1', 'stage2', 'stage3', 'stage4'.
    Any input size works: maps that go to a finer branch are enlarged to that branch's size.

    Args:
        extra: The stages 'stage1' to 'stage4', each with `num_modules`, `num_branches`, `block` ('BASIC' or
            'BOTTLENECK'), and `num_blocks` and `num_channels` for each branch. None: as `arch` says.
        in_channels: Channels of the picture.
        conv_cfg: Type of the convolutions; None: Conv2d.
        norm_cfg: Type of the norms; None: BatchNorm.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        with_cp: Whether blocks are recomputed in backward, for less memory.
        zero_init_residual: Whether each block starts as the identity, its last gamma at 0.
        multiscale_output: Whether the last exchange leads to all branches; False: to the finest alone, the only level.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        arch: A net of the paper, by its width; in place of `extra`. None: 'w32'.
        out_indices: Branches whose maps are returned, in this order; None: all.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the stages 1..k, with the transitions after them.
        upsample_mode: How maps are enlarged: 'nearest' as in MMDetection and timm, or 'bilinear' as in MMSegmentation.
        act_cfg: Type of the activations; None: ReLU.
        prune_stages: Whether exchanges that lead to no branch in `out_indices` or before it are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range, or contradicts another.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded up.

    Examples:
        >>> import torch
        >>> net = HRNet(arch='w18_small').eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 100))]
        [(1, 16, 16, 25), (1, 32, 8, 13), (1, 64, 4, 7), (1, 128, 2, 4)]
    """

    def __init__(
        self,
        extra: HRNetExtra | None = None,
        in_channels: int = 3,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        norm_eval: bool = True,
        with_cp: bool = False,
        zero_init_residual: bool = False,
        multiscale_output: bool = True,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        *,
        arch: Arch | None = None,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        upsample_mode: UpsampleMode = "nearest",
        act_cfg: ActivationCfg | None = None,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        if extra is not None and arch is not None:
            raise ConfigError(f"names a net beside extra, which describes one; remove {arch!r} or extra", ("arch",))
        if extra is None:
            extra = _extra_of(arch or "w32")
        _check(extra)
        stages = [extra[name] for name in STAGES]
        widths = [[c * BLOCKS[stage["block"]].expansion for c in stage["num_channels"]] for stage in stages]
        super().__init__(
            num_stages=4,
            num_levels=len(widths[3]) if multiscale_output else 1,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            prune_stages=prune_stages,
            recompute=recompute,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        check_range("in_channels", in_channels)
        self.zero_init_residual = zero_init_residual
        types: dict[str, Any] = dict(
            conv_cfg=conv_cfg,
            norm_cfg=BN if norm_cfg is None else norm_cfg,
            act_cfg=RELU if act_cfg is None else act_cfg,
        )
        branches: Callable[..., list[nn.Sequential]] = partial(_branches, with_cp=with_cp, **types)
        fusion: Callable[..., Fusion] = partial(Fusion, upsample_mode=upsample_mode, **types)

        def modules(number: int, outputs: int) -> dict[str, nn.Module]:
            """A stage's pairs of branches and exchange, the last of which leads to the finest `outputs` branches."""
            stage, channels = stages[number - 1], widths[number - 1]
            layers: dict[str, nn.Module] = {}
            for index in range(stage["num_modules"]):
                targets = range(outputs if index == stage["num_modules"] - 1 else len(channels))
                layers[f"stage{number}.{index}.branches"] = Branches(branches(stage, channels))
                layers[f"stage{number}.{index}.fuse_layers"] = Fusions(fusion(i, channels) for i in targets)
            return layers

        parts: dict[str, dict[str, nn.Module]] = {
            "layer1": {"layer1": branches(stages[0], [STEM_CHANNELS])[0]},
            "stage2": modules(2, len(widths[1])),
            "stage3": modules(3, len(widths[2])),
            "stage4": modules(4, self.levels_to_build),
        }
        for index, name in enumerate(("layer1", "stage2", "stage3")):
            parts[name][f"transition{index + 1}"] = Transition(widths[index], widths[index + 1], **types)
        place, exits = parts["stage4"].popitem()

        self.add_stem(_stem(in_channels, **types), channels=STEM_CHANNELS, stride=4)
        blocks = (stages[0]["num_blocks"][0], *(stage["num_modules"] for stage in stages[1:]))
        for index, (name, layers) in enumerate(parts.items()):
            channels = widths[min(index + 1, 3)][0]  # after the transition
            self.add_stage(name, layers, channels=channels, stride=4, is_level=False, blocks=blocks[index])
        for index, layer in enumerate(exits.children()):
            channels, out = widths[3][index], {f"{place}.{index}": layer}
            self.add_level(f"branch{index + 1}", {}, channels=channels, stride=4 * 2**index, out=out)
        if zero_init_residual:
            warn_of_gammas_left_out(self.trained_modules())

    def default_init(self, module: nn.Module) -> None:
        """As every backbone; then, with `zero_init_residual`, the last gamma of each block."""
        super().default_init(module)
        if self.zero_init_residual:
            for block in module.modules():
                if isinstance(block, ResidualBlock):
                    block.zero_init_last()


def _extra_of(arch: str) -> HRNetExtra:
    """The stages of a net of the paper."""
    width, (blocks, channels), depth, modules = ARCHITECTURES[arch]
    first = BranchesCfg(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=[blocks], num_channels=[channels])
    stage2, stage3, stage4 = (
        BranchesCfg(
            num_modules=modules[n - 2],
            num_branches=n,
            block="BASIC",
            num_blocks=[depth] * n,
            num_channels=[width * 2**i for i in range(n)],
        )
        for n in (2, 3, 4)
    )
    return HRNetExtra(stage1=first, stage2=stage2, stage3=stage3, stage4=stage4)


def _check(extra: HRNetExtra) -> None:
    """Refuses numbers out of range, lists of the wrong length, and a first stage that is not one branch.

    Raises:
        ConfigError: With all that is wrong.
    """
    problems = []
    for name in STAGES:
        stage = extra[name]
        counts = {"num_modules": stage["num_modules"], "num_branches": stage["num_branches"]}
        for key, count in counts.items():
            if count < 1 or (name == "stage1" and count != 1):
                wanted = "1: the first stage is blocks one after the other" if name == "stage1" else "1 or more"
                problems.append(Problem(f"must be {wanted}, got {count}", ("extra", name, key)))
        for key, values in {"num_blocks": stage["num_blocks"], "num_channels": stage["num_channels"]}.items():
            path = ("extra", name, key)
            if len(values) != stage["num_branches"]:
                wanted = f"{stage['num_branches']} values, one for each of num_branches"
                problems.append(Problem(f"needs {wanted}, got {tuple(values)}", path))
            problems += [Problem(f"must be 1 or more, got {v}", (*path, i)) for i, v in enumerate(values) if v < 1]
    if problems:
        raise ConfigError(problems)


def _stem(
    in_channels: int, *, conv_cfg: ConvCfg | None, norm_cfg: NormCfg, act_cfg: ActivationCfg
) -> dict[str, nn.Module]:
    """Two 3x3 convolutions of stride 2, with norms and activations."""
    layers: dict[str, nn.Module] = {}
    for index, channels in enumerate((in_channels, STEM_CHANNELS), start=1):
        layers[f"conv{index}"] = build_conv(conv_cfg, channels, STEM_CHANNELS, 3, stride=2, padding=1)
        with located("norm_cfg"):
            name, layers[name] = build_norm_layer(norm_cfg, STEM_CHANNELS, postfix=index)
        with located("act_cfg"):
            layers[f"relu{index}"] = build_activation_layer(act_cfg)
    return layers


def _branches(
    stage: BranchesCfg, in_channels: Sequence[int], *, conv_cfg: ConvCfg | None, norm_cfg: NormCfg, **rest: Any
) -> list[nn.Sequential]:
    """The blocks of each branch."""
    types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
    downsample = partial(build_downsample, avg_down=False, **types)
    specs = [
        StageSpec(BLOCKS[stage["block"]], planes, stride=1, dilations=(1,) * blocks, drop_paths=(0.0,) * blocks)
        for planes, blocks in zip(stage["num_channels"], stage["num_blocks"])
    ]
    return [build_stage(spec, before, downsample, **types, **rest) for spec, before in zip(specs, in_channels)]
