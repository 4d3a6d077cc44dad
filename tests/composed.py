"""Nets that no library has as such, put together from torchvision's and timm's: a second source for our model names.

`COMPOSED[name]` builds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import EcaModule, SelectiveKernel, SEModule
from timm.layers.cbam import CbamModule
from timm.layers.grn import GlobalResponseNorm
from timm.layers.non_local_attn import NonLocalAttn
from timm.models.ghostnet import GhostModule
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation, DropBlock2d, deform_conv2d

from .layers.definitions import adaptive_weight, switchable_convolution

TORCHVISION, TIMM = f"torchvision {torchvision.__version__.partition('+')[0]}", f"timm {timm.__version__}"


@dataclass
class Composed:
    """A net from elsewhere.

    Args:
        net: What computes, from a picture the map of every stage in a dict.
        made_of: What it is, in a phrase.
        renamed: Patterns in its keys, and what ours have in their place.
    """

    net: nn.Module
    made_of: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights under our keys."""
        found = {}
        for key, value in self.net.state_dict().items():
            for pattern, ours in self.renamed.items():
                key = re.sub(pattern, ours, key)
            found[key] = value
        return found


def resnet(depth: int, made_of: str = "", *, stages: int = 4, groups: int = 1, width_per_group: int = 64) -> Composed:
    """torchvision's, without classifier."""
    whole = getattr(torchvision.models, f"resnet{depth}")(groups=groups, width_per_group=width_per_group)
    net = IntermediateLayerGetter(whole, {f"layer{index}": str(index) for index in range(1, stages + 1)})
    return Composed(net, f"{TORCHVISION}{made_of and ', '}{made_of}")


def blocks(net: nn.Module, layers: Sequence[int] = (1, 2, 3, 4)) -> Iterator[BasicBlock | Bottleneck]:
    """Those of some stages, one after the other."""
    for index in layers:
        yield from getattr(net, f"layer{index}", nn.Identity()).children()


def replace_convs(net: nn.Module, build: Callable[[nn.Conv2d], nn.Module]) -> None:
    """Puts what `build` makes of each convolution in its place."""
    for name, conv in [*net.named_modules()]:
        if isinstance(conv, nn.Conv2d):
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, build(conv))


def caffe(made: Composed) -> Composed:
    """The stride on the first 1x1."""
    for block in blocks(made.net):
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    made.made_of += ", strides moved to the first 1x1"
    return made


def dilated(made: Composed, strides: Mapping[int, int], dilations: Mapping[int, Sequence[int]]) -> Composed:
    """Other strides of stages, and the dilation of each of their blocks, the last one's for the rest."""
    for index, stride in strides.items():
        first = next(blocks(made.net, [index]))
        for conv in (first.conv1, first.conv2, first.downsample[0]):
            conv.stride = (stride, stride) if max(conv.stride) > 1 else (1, 1)
    for index, of_blocks in dilations.items():
        for place, block in enumerate(blocks(made.net, [index])):
            conv = block.conv2 if isinstance(block, Bottleneck) else block.conv1
            spacing = of_blocks[min(place, len(of_blocks) - 1)]
            conv.dilation = conv.padding = (spacing, spacing)
    made.made_of += ", strides turned into dilation"
    return made


def deep_stem(made: Composed) -> Composed:
    """Three 3x3s in place of the 7x7."""

    def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

    norms = [nn.BatchNorm2d(32), nn.ReLU()], [nn.BatchNorm2d(32), nn.ReLU()]
    made.net.conv1 = nn.Sequential(conv(3, 32, 2), *norms[0], conv(32, 32), *norms[1], conv(32, 64))
    made.renamed = {r"^conv1\.": "stem.", r"^bn1\.": "stem.7."}
    made.made_of += ", a deep stem of torch's layers"
    return made


def cifar(depth: int) -> Composed:
    """A 3x3 of stride 1 and no pool before the stages."""
    made = resnet(depth, "first layers replaced by a 3x3 of stride 1")
    made.net.conv1, made.net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return made


def plugged(
    name: str,
    build: Callable[[int], nn.Module],
    said: str,
    *,
    layers: Sequence[int] = (1, 2, 3, 4),
    before: str | None = None,
    depth: int = 50,
    renamed: Mapping[str, str] | None = None,
) -> Composed:
    """A layer in every block of some stages.

    Args:
        name: That of the layer in our keys.
        build: Builds it, from channels.
        said: What it is.
        layers: Those stages.
        before: The convolution before which it runs; None: at the end of f(x).
        depth: That of the ResNet.
        renamed: As `Composed`.
    """
    made = resnet(depth, said)
    made.renamed = {} if renamed is None else renamed
    for block in blocks(made.net, layers):
        plugin = build(block.bn3.num_features if before is None else getattr(block, before).in_channels)
        for parameter in plugin.parameters():
            nn.init.normal_(parameter, std=0.1)
        block.add_module(name, plugin)
        if before is None:
            block.bn3.register_forward_hook(lambda layer, args, out, plugin=plugin: plugin(out))
        else:
            getattr(block, before).register_forward_pre_hook(lambda layer, args, plugin=plugin: plugin(args[0]))
    return made


def squeeze_excite(depth: int) -> Composed:
    """As SE-ResNet has it."""
    renamed = {r"se_layer\.fc([12])": r"se_layer.conv\1.conv"}
    return plugged("se_layer", SEModule, f"{TIMM} SEModule in each block", depth=depth, renamed=renamed)


def non_local(channels: int) -> nn.Module:
    """timm's, scaled and ended as the paper's."""
    layer = NonLocalAttn(channels, rd_channels=channels // 2)
    layer.scale, layer.norm = (channels // 2) ** -0.5, nn.Identity()
    return layer


def drop_block(channels: int) -> nn.Module:
    """torchvision's, with the step that ours counts."""
    layer = DropBlock2d(0.1, 7)
    layer.register_buffer("iteration", torch.zeros((), dtype=torch.long))
    return layer


def separable(channels: int) -> nn.Module:
    """A depthwise and a pointwise convolution."""
    depthwise = Conv2dNormActivation(channels, channels, 3, groups=channels)
    return nn.Sequential(depthwise, Conv2dNormActivation(channels, channels, 1))


class Deformable(nn.Conv2d):
    """torchvision's operator, its offsets from a convolution beside it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        shape = conv.kernel_size, conv.stride, conv.padding
        super().__init__(conv.in_channels, conv.out_channels, *shape, bias=False)
        self.conv_offset = nn.Conv2d(conv.in_channels, 2 * 3 * 3, *shape)

    def forward(self, x: Tensor) -> Tensor:
        return deform_conv2d(x, self.conv_offset(x), self.weight, None, self.stride, self.padding)


def deformable(depth: int) -> Composed:
    """Deformable 3x3s from the second stage on."""
    made = resnet(depth, "its deform_conv2d as 3x3s")
    for block in blocks(made.net, (2, 3, 4)):
        block.conv2 = Deformable(block.conv2)
    return made


class Adaptive(nn.Conv2d):
    """A convolution of which every filter is standardised, scaled and shifted."""

    def __init__(self, conv: nn.Conv2d) -> None:
        shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
        super().__init__(conv.in_channels, conv.out_channels, *shape, bias=False)
        self.register_buffer("weight_gamma", self.weight.detach().flatten(1).std(1)[:, None, None, None] * 1.1)
        self.register_buffer("weight_beta", torch.randn_like(self.weight_gamma) * 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, adaptive_weight(self), None, self.stride, self.padding, self.dilation, self.groups)


class Switchable(Adaptive):
    """DetectoRS's convolution by the paper's definition."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.weight_diff = nn.Parameter(torch.randn_like(self.weight) * 1e-2)
        self.switch = nn.Conv2d(conv.in_channels, 1, 1, conv.stride)
        self.pre_context = nn.Conv2d(conv.in_channels, conv.in_channels, 1)
        self.post_context = nn.Conv2d(conv.out_channels, conv.out_channels, 1)
        self.offset_s = nn.Conv2d(conv.in_channels, 18, 3, conv.stride, 1)
        self.offset_l = nn.Conv2d(conv.in_channels, 18, 3, conv.stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return switchable_convolution(self, x)


def detectors(depth: int, groups: int) -> Composed:
    """ResNeXt of switchable 3x3s, the other convolutions standardised."""
    made = resnet(depth, "its deform_conv2d in SAC as written in the paper", groups=groups, width_per_group=4)
    switches = [block.conv2 for block in blocks(made.net, (2, 3, 4))]
    replace_convs(made.net, lambda conv: (Switchable if conv in switches else Adaptive)(conv))
    return made


def trident(made: Composed) -> Composed:
    """The branch that is the net in eval: the last stage's 3x3s have dilation 2."""
    for block in blocks(made.net, [3]):
        block.conv2.dilation = block.conv2.padding = (2, 2)
    made.made_of += ", the 3x3s of its third stage dilated, as the branch that runs in eval"
    return made


def ghost(depth: int, ratio: int) -> Composed:
    """Ghost modules as the convolutions of all blocks; the norms behind them are the blocks'."""
    made = resnet(depth, f"{TIMM} GhostModule in place of its blocks' convolutions")

    def module(conv: nn.Conv2d) -> nn.Module:
        if conv is made.net.conv1:
            return conv
        built = GhostModule(conv.in_channels, conv.out_channels, conv.kernel_size[0], ratio, stride=conv.stride[0])
        for part in (built.primary_conv, built.cheap_operation):
            part[1] = part[2] = nn.Identity()
        return built

    replace_convs(made.net, module)
    return made


class Normed(nn.Module):
    """timm's ConvNeXt with a LayerNorm behind each stage."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = timm.create_model(name, num_classes=0)
        self.net.head = nn.Identity()
        for index, info in enumerate(self.net.feature_info):
            norm = nn.LayerNorm(info["num_chs"], eps=1e-6)
            nn.init.normal_(norm.weight, 1, 0.1)
            nn.init.normal_(norm.bias, 0, 0.1)
            self.add_module(f"norm{index}", norm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, maps = self.net.stem(x), {}
        for index, stage in enumerate(self.net.stages):
            x = stage(x)
            maps[str(index)] = getattr(self, f"norm{index}")(x.movedim(1, -1)).movedim(-1, 1)
        return maps


def convnext(name: str) -> Composed:
    """With the norms of MMPretrain's outputs."""
    renamed = {
        r"^net\.stem\.": "downsample_layers.0.",
        r"^net\.stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"^net\.stages\.(\d)\.blocks\.": r"stages.\1.",
        r"\.conv_dw\.": ".depthwise_conv.",
        r"\.mlp\.fc([12])\.": r".pointwise_conv\1.",
    }
    return Composed(Normed(name), f"{TIMM}, torch's LayerNorm behind each stage", renamed)


GRN = partial(GlobalResponseNorm, channels_last=False)
OF_SEQUENTIAL = {r"(_block|_conv)\.0\.": r"\1.conv.", r"(_block|_conv)\.1\.": r"\1.bn."}
SEPARABLE = "depthwise_separable_conv_module"

COMPOSED: dict[str, Callable[[], Composed]] = {
    "resnet50_caffe_c4": lambda: caffe(resnet(50, stages=3)),
    "resnet101_c4": lambda: resnet(101, "three stages", stages=3),
    "resnet101_caffe": lambda: caffe(resnet(101)),
    "resnet101_caffe_c4": lambda: caffe(resnet(101, stages=3)),
    "resnet101_caffe_dc5": lambda: dilated(caffe(resnet(101)), {4: 1}, {4: [2]}),
    "resnet50_dc5": lambda: dilated(resnet(50), {4: 1}, {4: [2]}),
    "resnet101_dc5": lambda: dilated(resnet(101), {4: 1}, {4: [2]}),
    "resnet18_d8": lambda: dilated(resnet(18), {3: 1, 4: 1}, {3: [1, 2], 4: [2, 4]}),
    "resnet18_v1c_d16": lambda: dilated(deep_stem(resnet(18)), {4: 1}, {4: [1, 2]}),
    "resnet101_v1c_d16_mg124": lambda: dilated(deep_stem(resnet(101)), {4: 1}, {4: [1, 2, 4]}),
    "resnet34_cifar": lambda: cifar(34),
    "resnet101_cifar": lambda: cifar(101),
    "se_resnet152": lambda: squeeze_excite(152),
    "resnet50_se": lambda: squeeze_excite(50),
    "resnet50_cbam": lambda: plugged("cbam", CbamModule, f"{TIMM} CbamModule in each block"),
    "resnet50_eca": lambda: plugged("eca", EcaModule, f"{TIMM} EcaModule in each block"),
    "resnet50_dropblock": lambda: plugged("drop_block", drop_block, "its DropBlock2d, in eval", layers=(3, 4)),
    "resnet50_grn": lambda: plugged(
        "grn",
        GRN,
        f"{TIMM} GlobalResponseNorm",
        layers=(3, 4),
        before="conv3",
        renamed={r"grn\.weight": "grn.gamma", r"grn\.bias": "grn.beta"},
    ),
    "resnet50_sk": lambda: plugged("sk", SelectiveKernel, f"{TIMM} SelectiveKernel", layers=(3, 4), before="conv3"),
    "resnet50_nonlocal": lambda: plugged(
        "nonlocal_block",
        non_local,
        f"{TIMM} NonLocalAttn",
        layers=(3,),
        before="conv3",
        renamed={r"_block\.g": "_block.g.conv", r"_block\.t": "_block.theta.conv", r"_block\.p": "_block.phi.conv"}
        | {r"_block\.z": "_block.conv_out.conv"},
    ),
    "resnet50_conv_block": lambda: plugged(
        "conv_block",
        lambda channels: Conv2dNormActivation(channels, channels, 3),
        "its Conv2dNormActivation",
        layers=(4,),
        before="conv3",
        renamed=OF_SEQUENTIAL,
    ),
    "resnet50_separable": lambda: plugged(
        SEPARABLE,
        separable,
        "two of its Conv2dNormActivation",
        layers=(4,),
        before="conv3",
        renamed={rf"{SEPARABLE}\.0": f"{SEPARABLE}.depthwise_conv", rf"{SEPARABLE}\.1": f"{SEPARABLE}.pointwise_conv"}
        | OF_SEQUENTIAL,
    ),
    "resnet50_dcn": lambda: deformable(50),
    "trident_resnet50": lambda: trident(resnet(50, stages=3)),
    "trident_resnet101": lambda: trident(resnet(101, stages=3)),
    "trident_resnet152": lambda: trident(resnet(152, stages=3)),
    "detectors_resnext50_32x4d": lambda: detectors(50, 32),
    "detectors_resnext101_32x4d": lambda: detectors(101, 32),
    "detectors_resnext101_64x4d": lambda: detectors(101, 64),
    "ghost_resnet50": lambda: ghost(50, 2),
    "ghost_resnet50_s4": lambda: ghost(50, 4),
    "convnext_tiny_normed": lambda: convnext("convnext_tiny"),
    "convnext_small_normed": lambda: convnext("convnext_small"),
    "convnext_base_normed": lambda: convnext("convnext_base"),
}
"""How the net of a model name is put together."""
