"""VGG, with the arguments of MMPretrain's and the state-dict keys of torchvision's.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv 1409.1556,
section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..layers import ActivationCfg
from ..recompute import Recompute
from .base import BACKBONES, Backbone
from .ranges import check_range, per_stage
from .types import ConvCfg, NormCfg
from .vgg_layers import CHANNELS, conv_layers, max_pool, num_convs, numbered
from .weights import InitCfg


@BACKBONES.register_module()
class VGG(Backbone):
    """VGG-11, 13, 16 and 19 without the classifier.

    A stage is its convolutions and the pool behind them. There is no stem: the level 'stem' is the picture, of stride
    1, and `frozen_stages=0` freezes nothing.

    Args:
        depth: Number of layers, the classifier's three included: 11, 13, 16 or 19.
        num_stages: How many stages there are, 1 to 5.
        dilations: Dilation of the convolutions of each stage; None: 1s.
        out_indices: Stages whose maps are returned, in this order; None: all.
        frozen_stages: -1 and 0 freeze nothing, k the stages 1..k.
        conv_cfg: Type of the convolutions; None: Conv2d. They have a bias, also before a norm.
        norm_cfg: Type of the norms; None: there are none.
        act_cfg: Type of the activations; None: ReLU.
        norm_eval: Whether every BatchNorm stays on its running statistics.
        ceil_mode: Whether pools round odd sizes up; otherwise they leave the last row or column out.
        with_last_pool: Whether the last stage ends with its pool; otherwise its stride is half.
        pretrained: A checkpoint that `init_weights` loads.
        init_cfg: How `init_weights` fills the weights.
        in_channels: Channels of the picture.
        prune_stages: Whether the stages after the last one in `out_indices` are left unbuilt.
        recompute: What is made again in backward, for less memory: 'cheap', `dict(budget_mb=…)`, or None: nothing.

    Raises:
        ConfigError: An argument is out of range or of the wrong length.

    Shape:
        - Input: (N, in_channels, H, W), H and W at least 32, or 1 with `ceil_mode`
        - Output: a tuple, for each of `out_indices`, of (N, C, H / stride, W / stride), rounded as `ceil_mode` says.

    Examples:
        >>> import torch
        >>> net = VGG(11, out_indices=(2, 4)).eval()
        >>> [tuple(f.shape) for f in net(torch.rand(1, 3, 64, 96))], net.out_strides
        ([(1, 256, 8, 12), (1, 512, 2, 3)], (8, 32))
    """

    def __init__(
        self,
        depth: int,
        num_stages: int = 5,
        dilations: Sequence[int] | None = None,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        act_cfg: ActivationCfg | None = None,
        norm_eval: bool = False,
        ceil_mode: bool = False,
        with_last_pool: bool = True,
        pretrained: str | None = None,
        init_cfg: InitCfg | Sequence[InitCfg] | None = None,
        *,
        in_channels: int = 3,
        prune_stages: bool = False,
        recompute: Recompute | None = None,
    ) -> None:
        convs = num_convs(depth)
        if not 1 <= num_stages <= 5:
            raise ConfigError(f"must be from 1 to 5, got {num_stages}", ("num_stages",))
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
        dilations = per_stage("dilations", dilations, num_stages, (1,) * num_stages)
        for index, dilation in enumerate(dilations):
            check_range("dilations", dilation, path=(index,))
        types: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

        self.add_stem({}, channels=in_channels, stride=1)
        first, channels, stride = 0, in_channels, 1
        for index in range(self.stages_to_build):
            layers: list[nn.Module] = []
            for _ in range(convs[index]):
                layers += conv_layers(channels, CHANNELS[index], dilation=dilations[index], **types)
                channels = CHANNELS[index]
            if with_last_pool or index < num_stages - 1:
                layers.append(max_pool(ceil_mode))
                stride *= 2
            stage = numbered(layers, first)
            self.add_stage(f"stage{index + 1}", stage, channels=channels, stride=stride, blocks=convs[index])
            first += len(layers)
