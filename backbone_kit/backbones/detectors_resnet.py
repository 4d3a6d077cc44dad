"""The backbones of DetectoRS: switchable convolutions, and a second run that looks at what a neck made of the first.

Source: Qiao et al., "DetectoRS: Detecting Objects with Recursive Feature Pyramid and Switchable Atrous Convolution",
arXiv 2006.02334, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn

from ..errors import ConfigError
from ..recompute import recompute
from .base import BACKBONES
from .blocks import Bottleneck
from .ranges import check_range, per_stage
from .resnet import ResNet
from .stage import StageSpec
from .types import ConvCfg


class _Feedback(nn.Conv2d):
    """A 1x1 convolution of what comes back from the neck, without effect to begin with (section 3.2)."""

    brings_new: ClassVar[bool] = True

    def init_weights(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(cast(Tensor, self.bias))


class RecursiveBottleneck(Bottleneck):
    """A bottleneck that can add a map of the neck before its last activation; arguments as `Bottleneck`."""

    def add_feedback(self, in_channels: int, channels: int) -> None:
        """Registers `rfp_conv`, from the neck's channels to the block's."""
        self.rfp_conv = _Feedback(in_channels, channels, 1)

    def forward(self, x: Tensor, feedback: Tensor | None = None) -> Tensor:
        """As every block's; `feedback` has the size of the output and the channels that `add_feedback` was told."""
        out = recompute(self, self._sum, x) if self.with_cp else self._sum(x)
        if feedback is not None:
            out = out + self.rfp_conv(feedback)
        y: Tensor = self.relu(out)
        return y


@BACKBONES.register_module()
class DetectoRS_ResNet(ResNet):
    """ResNet with switchable atrous convolutions (SAC), for a recursive feature pyramid (RFP).

    Args:
        depth: Number of layers: 50, 101 or 152.
        in_channels: Channels of the picture.
        sac: Type of the 3x3 convolutions where `stage_with_sac` says so: 'SAC', perhaps with `use_deform`.
        stage_with_sac: For each stage, whether it gets `sac`.
        rfp_inplanes: Channels of the maps that `rfp_forward` takes; the first blocks of all stages but the first get an
            `rfp_conv` for them. None: there is no second run.
        output_img: Whether the picture comes first among the maps, as `RFP` wants it; `out_channels` and `out_strides`
            count it.
        *args, **kwargs: As `ResNet`, but `block`: there are bottlenecks alone. With `avg_down`, there is a pool only
            where there is a stride.

    Raises:
        ConfigError: As `ResNet`; and of `sac` without `stage_with_sac`, or the other way round, or a stage with SAC
            and DCN.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: as `ResNet`; with `output_img`, the input before that
    """

    arch_settings = {
        50: (RecursiveBottleneck, (3, 4, 6, 3)),
        101: (RecursiveBottleneck, (3, 4, 23, 3)),
        152: (RecursiveBottleneck, (3, 8, 36, 3)),
    }

    def __init__(
        self,
        depth: Literal[50, 101, 152],
        in_channels: int = 3,
        *args: Any,
        sac: ConvCfg | None = None,
        stage_with_sac: Sequence[bool] | None = None,
        rfp_inplanes: int | None = None,
        output_img: bool = False,
        block: None = None,
        **kwargs: Any,
    ) -> None:
        if rfp_inplanes is not None:
            check_range("rfp_inplanes", rfp_inplanes)
        self.sac, self.stage_with_sac = sac, stage_with_sac
        self.rfp_inplanes = rfp_inplanes
        self.output_img = output_img
        self.in_channels = in_channels
        super().__init__(depth, in_channels, *args, **kwargs)

    def adapted(self, specs: list[StageSpec]) -> list[StageSpec]:
        """The stages, with SAC in the place of DCN where that was asked for."""
        chosen = per_stage("stage_with_sac", self.stage_with_sac, len(specs), (False,) * len(specs))
        if self.sac is None and any(chosen):
            raise ConfigError("needs sac to say which convolution, such as sac=dict(type='SAC')", ("stage_with_sac",))
        if self.sac is not None and self.stage_with_sac is None:
            example = (False,) + (True,) * (len(specs) - 1)
            raise ConfigError(f"needs stage_with_sac to say in which stages, such as {example}", ("sac",))
        for index, (spec, switchable) in enumerate(zip(specs, chosen)):
            if switchable and spec.dcn is not None:
                raise ConfigError("has dcn as well; a convolution is one or the other", ("stage_with_sac", index))
        return [replace(spec, dcn=self.sac) if switchable else spec for spec, switchable in zip(specs, chosen)]

    def build_shortcut(self, in_channels: int, out_channels: int, stride: int, **kwargs: Any) -> nn.Sequential:
        """As ResNet's, but no pool holds a place in the keys where there is no stride."""
        kwargs["avg_down"] = kwargs["avg_down"] and stride != 1
        return super().build_shortcut(in_channels, out_channels, stride, **kwargs)

    def add_stage(self, name: str, stage: Any, **kwargs: Any) -> None:
        """As every backbone's; all stages but the first take feedback, where there is any."""
        if self.rfp_inplanes is not None and self.stage_names:
            stage[0].add_feedback(self.rfp_inplanes, kwargs["channels"])
        super().add_stage(name, stage, **kwargs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of the stages in `out_indices`; with `output_img`, the picture before them."""
        maps = super().forward(x)
        return (x, *maps) if self.output_img else maps

    def rfp_forward(self, x: Tensor, rfp_feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A second run over the same picture, with what the neck made of the first.

        Args:
            x: The picture, shape (N, in_channels, H, W).
            rfp_feats: A map for each stage, of the size of its output and `rfp_inplanes` channels; that of the first
                stage is not looked at.

        Returns:
            The maps of the stages in `out_indices`, without the picture.

        Raises:
            RuntimeError: The net was built without `rfp_inplanes`.
        """
        if self.rfp_inplanes is None:
            raise RuntimeError("rfp_forward needs a net built with rfp_inplanes, the channels of rfp_feats")
        run = partial(self._maps_with_feedback, feedback=rfp_feats)
        maps = run(x) if self._recomputation is None else self._recomputation.run(self, run, x, "with feedback")
        return tuple(maps[index] for index in self.out_indices)

    def _maps_with_feedback(self, x: Tensor, feedback: Sequence[Tensor]) -> list[Tensor]:
        x = self._run(self.stem_names + self.pool_names, x)
        maps: list[Tensor] = []
        for index, name in enumerate(self.stage_names[: max(self.out_indices) + 1]):
            first, *rest = self.get_submodule(name).children()
            x = first(x, feedback[index]) if index else first(x)
            for block in rest:
                x = block(x)
            maps.append(x)
        return maps

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of the maps that `forward` returns, the picture's among them."""
        return (self.in_channels,) * self.output_img + super().out_channels

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Strides of the maps that `forward` returns, in input pixels; 1 of the picture."""
        return (1,) * self.output_img + super().out_strides

    def describe(self) -> list[dict[str, Any]]:
        """As every backbone's; the picture's place in the output counts."""
        parts = super().describe()
        if self.output_img:
            for part in parts:
                part["out_index"] = None if part["out_index"] is None else part["out_index"] + 1
        return parts


@BACKBONES.register_module()
class DetectoRS_ResNeXt(DetectoRS_ResNet):
    """DetectoRS with groups in its 3x3 convolutions.

    Args:
        depth: Number of layers: 50, 101 or 152.
        in_channels: Channels of the picture.
        groups: Groups of the 3x3s; 1 makes it a `DetectoRS_ResNet`.
        base_width: Width of each group where the stage's is `base_channels`; of several groups.
        *args, **kwargs: As `DetectoRS_ResNet`, but `cardinality`, which is `groups` here.
    """

    def __init__(
        self,
        depth: Literal[50, 101, 152],
        in_channels: int = 3,
        *args: Any,
        groups: int = 1,
        base_width: int = 4,
        cardinality: None = None,
        **kwargs: Any,
    ) -> None:
        check_range("groups", groups)
        width = base_width if groups > 1 else None
        super().__init__(depth, in_channels, *args, **kwargs, cardinality=groups, base_width=width)
