"""The split-attention convolution of ResNeSt, under MMDetection's name and with its state-dict keys."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import ConfigError, located
from .activation import ActivationCfg, build_activation_layer
from .conv import ConvCfg, build_conv_layer
from .conv_norm import conv_norm
from .drop_block import DropBlock
from .norm import NormCfg, build_norm_layer

BatchOfOne = Literal["refuse", "running_stats"]


class RSoftmax(nn.Module):
    """Softmax over the splits; with a single one, a sigmoid.

    Args:
        radix: Number R of splits.
        groups: Number G of cardinal groups.

    Shape:
        (N, G · R · C/G, 1, 1), ordered by group, then split, to (N, R · C, 1, 1), ordered by split, then group.
    """

    def __init__(self, radix: int, groups: int) -> None:
        super().__init__()
        self.radix = radix
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        if self.radix == 1:
            return torch.sigmoid(x)
        by_group = x.reshape(x.shape[0], self.groups, self.radix, -1)
        return by_group.softmax(2).transpose(1, 2).reshape(x.shape)


class SplitAttentionConv2d(nn.Module):
    """A convolution to R splits of the map, norm, activation, and the sum of the splits, each weighted per channel.

    The weights come from the mean of all splits over the map, through 1x1, norm, activation, 1x1 and `RSoftmax`. Keys:
    `conv`, `bn0`, `fc1`, `bn1`, `fc2`.

    Args:
        in_channels: Channels of the input.
        channels: Channels C of the output.
        kernel_size, stride, padding, dilation: Of the convolution.
        groups: Number G of cardinal groups; the convolution has G · R groups.
        radix: Number R of splits. 1: one map with a sigmoid gate. 0: no attention, just `conv`, `bn0` and the
            activation.
        reduction_factor: `in_channels * radix` over the channels between the two 1x1s, which are 32 at least.
        conv_cfg: Type of the convolution; None: Conv2d. The 1x1s are always Conv2d.
        norm_cfg: Type of the norms; None: BatchNorm.
        dcn: Type of the convolution in place of `conv_cfg`; with `fallback_on_stride`, only where its stride is 1.
        act_cfg: Type of the activations; None: ReLU.
        rectified: Whether the convolution, where it has padding, is an `RFConv2d`.
        rectify_avg: Whether that one is in `average_mode`.
        dropblock_prob: Probability of a `DropBlock` of 3x3 pixels behind the first norm, anywhere in the map.
        dropblock_warmup: Training forwards over which it grows from 0; a schedule is part of the state dict.
        batch_of_one: What a BatchNorm between the 1x1s does while it trains with one picture, and so with one value a
            channel, which has no variance. 'refuse': an error that says so; 'running_stats': it takes its running
            statistics, as in eval, and leaves them as they are.

    Raises:
        ConfigError: A number is out of range or does not divide the channels, an option has no effect, or the norm
            makes any map of one pixel 0, as InstanceNorm does.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, channels, H', W') as `torch.nn.Conv2d` gives them

    Source: Zhang et al., ResNeSt: Split-Attention Networks, arXiv 2004.08955, section 3.1 and appendix (radix-major).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        radix: int = 2,
        reduction_factor: int = 4,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        dcn: ConvCfg | None = None,
        *,
        act_cfg: ActivationCfg | None = None,
        rectified: bool = False,
        rectify_avg: bool = False,
        dropblock_prob: float = 0.0,
        dropblock_warmup: int = 0,
        batch_of_one: BatchOfOne = "refuse",
    ) -> None:
        super().__init__()
        splits = max(radix, 1)
        inner_channels = max(in_channels * splits // max(reduction_factor, 1), 32)
        _check(in_channels, channels, groups, radix, reduction_factor, inner_channels)
        self.radix = radix
        self.groups = groups
        self.channels = channels
        self.batch_of_one = batch_of_one
        norm_cfg = {"type": "BN"} if norm_cfg is None else norm_cfg
        act_cfg = {"type": "ReLU", "inplace": True} if act_cfg is None else act_cfg

        if rectify_avg and not rectified:
            raise ConfigError("has no effect without rectified=True", ("rectify_avg",))
        if dropblock_warmup and not dropblock_prob:
            raise ConfigError("has no effect without dropblock_prob", ("dropblock_warmup",))
        key, cfg = _conv_type(conv_cfg, dcn, stride, rectified and padding not in (0, (0, 0)), rectify_avg)
        shape = dict(stride=stride, padding=padding, dilation=dilation, groups=groups * splits)
        with located(key):
            self.conv = build_conv_layer(cfg, in_channels, channels * splits, kernel_size, bias=False, **shape)
        with located("norm_cfg"):
            self.norm0_name, norm = build_norm_layer(norm_cfg, channels * splits, postfix=0)
            self.add_module(self.norm0_name, norm)
        self.dropblock: nn.Module | None = None
        if dropblock_prob:
            self.dropblock = DropBlock(dropblock_prob, 3, dropblock_warmup, whole_blocks=False)
        with located("act_cfg"):
            self.relu = build_activation_layer(act_cfg)
        if radix == 0:
            return
        self.fc1 = nn.Conv2d(channels, inner_channels, 1, groups=groups)
        with located("norm_cfg"):
            self.norm1_name, norm = build_norm_layer(norm_cfg, inner_channels, postfix=1)
            self.add_module(self.norm1_name, norm)
        if isinstance(norm, _InstanceNorm):
            raise ConfigError(f"{type(norm).__name__} makes the pooled map, one pixel, 0; use BN or GN", ("norm_cfg",))
        self.fc2 = nn.Conv2d(inner_channels, channels * radix, 1, groups=groups)
        self.rsoftmax = RSoftmax(radix, groups)

    @property
    def norm0(self) -> nn.Module:
        """The norm of the convolution."""
        module: nn.Module = getattr(self, self.norm0_name)
        return module

    @property
    def norm1(self) -> nn.Module:
        """The norm between the 1x1s."""
        module: nn.Module = getattr(self, self.norm1_name)
        return module

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        if self.dropblock is None:
            x = conv_norm(self.conv, self.norm0, x, self.relu)
        else:
            x = self.relu(self.dropblock(conv_norm(self.conv, self.norm0, x)))
        if self.radix == 0:
            return x
        by_split = (x.shape[0], self.radix, self.channels)
        pooled = x.mean((2, 3)).view(by_split).sum(1)[:, :, None, None]  # means first: no sum of whole maps is stored
        weights: Tensor = self.rsoftmax(self.fc2(self.relu(self._norm_pooled(self.fc1(pooled)))))
        (split, *splits), (weight, *others) = x.chunk(self.radix, 1), weights.chunk(self.radix, 1)
        out = split * weight
        for split, weight in zip(splits, others):
            out = torch.addcmul(out, split, weight)
        return out

    def _norm_pooled(self, x: Tensor) -> Tensor:
        norm = self.norm1
        if not (isinstance(norm, _BatchNorm) and norm.training and x.shape[0] == 1) or _is_shared(norm):
            y: Tensor = norm(x)
            return y
        if self.batch_of_one == "refuse" or norm.running_mean is None:
            raise ValueError(
                f"{self.norm1_name}, the BatchNorm of a split attention's pooled map, cannot train on one picture: "
                "that is one value a channel. Give it two or more, or norm_eval=True, or batch_of_one='running_stats'"
            )
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def _is_shared(norm: _BatchNorm) -> bool:
    """Whether a BatchNorm takes its statistics from several processes."""
    if not isinstance(norm, nn.SyncBatchNorm) or not dist.is_available() or not dist.is_initialized():
        return False
    return dist.get_world_size(norm.process_group) > 1


def _conv_type(
    conv_cfg: ConvCfg | None, dcn: ConvCfg | None, stride: int | tuple[int, int], rectified: bool, rectify_avg: bool
) -> tuple[str, ConvCfg | None]:
    """The convolution's config, and the argument that it comes from."""
    key, cfg = "conv_cfg", conv_cfg
    if dcn is not None and not (dcn.get("fallback_on_stride", False) and stride not in (1, (1, 1))):
        key, cfg = "dcn", {name: value for name, value in dcn.items() if name != "fallback_on_stride"}
    if not rectified:
        return key, cfg
    if cfg is not None:
        raise ConfigError(f"takes the place of the convolution that {key}={cfg} names; remove one", ("rectified",))
    return "rectified", {"type": "RFConv", "average_mode": rectify_avg}


def _check(
    in_channels: int, channels: int, groups: int, radix: int, reduction_factor: int, inner_channels: int
) -> None:
    for name, value, least in (("radix", radix, 0), ("groups", groups, 1), ("reduction_factor", reduction_factor, 1)):
        if value < least:
            raise ConfigError(f"must be {least} or more, got {value}", (name,))
    if in_channels % (groups * max(radix, 1)):
        of = f"`in_channels` (={in_channels}) must be divisible by groups (={groups}) times radix (={radix})"
        raise ConfigError(of, ("groups",))
    if channels % groups or (radix and inner_channels % groups):
        of = f"`channels` (={channels}) and the channels between the 1x1s (={inner_channels})"
        raise ConfigError(f"must divide {of}, got {groups}", ("groups",))
