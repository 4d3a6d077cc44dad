"""TridentResNet: the last stage three times, with the same weights and different dilations.

Source: Li et al., "Scale-Aware Trident Networks for Object Detection", arXiv 1901.01892, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from ..layers.conv_norm import followed
from .base import BACKBONES
from .blocks import Bottleneck
from .ranges import check_range
from .resnet import ResNet
from .stage import StageSpec


class TridentConv(nn.Conv2d):
    """A 3x3 convolution for several branches: one weight, a dilation for each.

    Branches stand one after the other along the first dimension: (B * N, C, H, W), the first branch's N maps first.

    Args:
        in_channels, out_channels, kernel_size, stride, groups, bias: As for `torch.nn.Conv2d`.
        padding, dilation: Those of a net without branches; 1.
        dilations: For each branch; its padding is the same.
        test_branch: The branch that runs alone in eval; -1: all run.
        splits: Whether the input is N maps that all branches share, and not N for each.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        dilations: Sequence[int],
        test_branch: int,
        splits: bool,
    ) -> None:
        one = dilations[test_branch]
        super().__init__(in_channels, out_channels, kernel_size, stride, one, one, groups=groups, bias=bias)
        self.dilations, self.test_branch, self.splits = tuple(dilations), test_branch, splits

    @property
    def num_branches(self) -> int:
        """How many run: all in training, and in eval with `test_branch=-1`; else one."""
        return len(self.dilations) if self.training or self.test_branch == -1 else 1

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N or B * N, C_in, H, W) to (B * N, C_out, H / stride, W / stride), B the number of branches."""
        if self.num_branches == 1:
            return super().forward(x)
        maps = [x] * self.num_branches if self.splits else by_branch(x, self.num_branches)
        conv = partial(F.conv2d, weight=self.weight, bias=self.bias, stride=self.stride, groups=self.groups)
        return torch.cat([conv(y, padding=d, dilation=d) for y, d in zip(maps, self.dilations)])


def by_branch(x: Tensor, branches: int) -> tuple[Tensor, ...]:
    """(B * N, …) as B times (N, …)."""
    return x.reshape(branches, -1, *x.shape[1:]).unbind()


class TridentBottleneck(Bottleneck):
    """A bottleneck whose 3x3 is a `TridentConv`; a BatchNorm that trains takes the statistics of each branch.

    What all branches share is computed once, and counts once in running statistics; MMDetection has it once a branch,
    which are the same outputs and gradients, and statistics that follow the batches faster.

    Args:
        *args: As `Bottleneck` has them.
        trident_dilations: Dilation of the 3x3, for each branch.
        test_branch_idx: The branch that runs alone in eval; -1: all run.
        first: Whether this is the first block of its stage: its input, of N maps, is that of all branches, and what
            comes before the 3x3 is computed once.
        dcn: Must be None.
        **kwargs: As `Bottleneck` has them.
    """

    def __init__(
        self,
        *args: Any,
        trident_dilations: Sequence[int],
        test_branch_idx: int,
        first: bool = False,
        dcn: None = None,
        **kwargs: Any,
    ) -> None:
        trident = dict(type=TridentConv, dilations=trident_dilations, test_branch=test_branch_idx, splits=first)
        super().__init__(*args, **kwargs, dcn=trident)  # type: ignore[misc]
        self.first = first

    @property
    def branches(self) -> int:
        """How many branches run."""
        conv: TridentConv = self.get_submodule("conv2")  # type: ignore[assignment]
        return conv.num_branches

    def conv_norm(self, index: int, x: Tensor, act: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """The i-th convolution of f, with its norm: where that has statistics of the batch, branch by branch."""
        norm = self.norm(index)
        one = self.branches == 1 or (index == 1 and self.first)
        if one or not (isinstance(norm, _BatchNorm) and norm.training):
            return super().conv_norm(index, x, act, shortcut)
        y = getattr(self, f"conv{index}")(x)
        return followed(torch.cat([norm(z) for z in by_branch(y, self.branches)]), act, shortcut)

    def shortcut(self, x: Tensor) -> Tensor:
        """What f(x) is added to: in the first block, one map for all branches."""
        y = super().shortcut(x)
        return y.repeat(self.branches, 1, 1, 1) if self.first and self.branches > 1 else y


@BACKBONES.register_module()
class TridentResNet(ResNet):
    """TridentNet's ResNet-50, 101 and 152, of three stages; further arguments as `ResNet`.

    The convolutions of the last stage run once for each branch, with one weight and a dilation for each. In training,
    and in eval with `test_branch_idx=-1`, the map of the last stage has `num_branch` times as many pictures as the
    input, those of the first branch first; in eval with another `test_branch_idx` that branch runs alone.

    Args:
        depth: Number of layers, one of `arch_settings`, the fourth stage's included, which is not there.
        num_branch: How many branches there are.
        test_branch_idx: The branch that runs alone in eval; -1: all run.
        trident_dilations: Dilation of the last stage's 3x3s, for each branch.
        num_stages: 3.
        **kwargs: As for `ResNet`. Deformable convolution and dilation are for the first two stages.

    Raises:
        ConfigError: `trident_dilations` is not one for each branch, `test_branch_idx` is no branch, or the last stage
            has another dilation or a deformable convolution.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: as `ResNet`, and the last stage's map (num_branch * N, C, H / 16, W / 16) where all branches run.

    Examples:
        >>> import torch
        >>> net = TridentResNet(50, num_branch=3, test_branch_idx=1, trident_dilations=(1, 2, 3), norm_eval=False)
        >>> x = torch.rand(1, 3, 32, 32)
        >>> net.train()(x)[-1].shape, net.eval()(x)[-1].shape
        (torch.Size([3, 1024, 2, 2]), torch.Size([1, 1024, 2, 2]))
    """

    arch_settings: ClassVar[Any] = {
        depth: (block, layers[:3]) for depth, (block, layers) in ResNet.arch_settings.items() if block is Bottleneck
    }
    settled = ("block", "multi_grid", "contract_dilation", "output_stride")

    def __init__(
        self,
        depth: int,
        num_branch: int,
        test_branch_idx: int,
        trident_dilations: Sequence[int],
        num_stages: Literal[3] = 3,
        **kwargs: Any,
    ) -> None:
        check_range("num_branch", num_branch)
        if len(trident_dilations) != num_branch:
            wanted = f"{num_branch} values, one for each of num_branch"
            raise ConfigError(f"needs {wanted}, got {tuple(trident_dilations)}", ("trident_dilations",))
        for index, dilation in enumerate(trident_dilations):
            check_range("trident_dilations", dilation, path=(index,))
        if not -1 <= test_branch_idx < num_branch:
            raise ConfigError(
                f"must be from -1 (all) over 0 to {num_branch - 1}, got {test_branch_idx}", ("test_branch_idx",)
            )
        self.num_branch, self.test_branch_idx = num_branch, test_branch_idx
        self.trident_dilations = tuple(trident_dilations)
        super().__init__(depth, num_stages=num_stages, **kwargs)

    def adapted(self, specs: list[StageSpec]) -> list[StageSpec]:
        """The last stage with branches."""
        *others, last = specs
        if set(last.dilations) != {1}:
            raise ConfigError(f"the last stage's are trident_dilations, not {last.dilations[0]}", ("dilations", 2))
        if last.dcn is not None:
            raise ConfigError("must be False: the last stage's 3x3s have branches", ("stage_with_dcn", 2))
        branches = {"trident_dilations": self.trident_dilations, "test_branch_idx": self.test_branch_idx}
        block_args = {**last.block_args, **branches}
        first_block_args = {**last.first_block_args, "first": True}
        last = replace(last, block=TridentBottleneck, block_args=block_args, first_block_args=first_block_args)
        return [*others, last]
