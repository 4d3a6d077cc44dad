"""Receptive fields against Araujo et al. 2019 (https://distill.pub/2019/computing-receptive-fields) and by probing."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from backbone_kit.analysis import analyze


def field_of(model: nn.Module, size: int = 64, channels: int = 3) -> tuple[float, ...] | None:
    whole = nn.Sequential(model)
    return analyze(whole, (size, size), in_channels=channels).parts[-1].receptive_field


def closed_form(layers: list[tuple[int, int]]) -> int:
    """Equation 2 of Araujo et al.: r0 = sum((k_l - 1) * prod of the strides before l) + 1."""
    field, step = 1, 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, step * stride
    return field


def resnet_layers(blocks: list[int], *, stride_in_1x1: bool) -> list[tuple[int, int]]:
    layers = [(7, 2), (3, 2)]
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers += [(1, stride), (3, 1), (1, 1)] if stride_in_1x1 else [(1, 1), (3, stride), (1, 1)]
    return layers


@pytest.mark.parametrize(
    ("blocks", "published"), [([3, 4, 6, 3], 483), ([3, 4, 23, 3], 1027), ([3, 8, 36, 3], 1507)], ids=str
)
def test_closed_form_equals_published_numbers(blocks, published):
    assert closed_form(resnet_layers(blocks, stride_in_1x1=True)) == published


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet50", [3, 4, 6, 3]), ("resnet101", [3, 4, 23, 3]), ("resnet152", [3, 8, 36, 3])]
)
@pytest.mark.parametrize("stride_in_1x1", [False, True], ids=["v1.5", "v1"])
def test_resnets_equal_closed_form(name, blocks, stride_in_1x1):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    for module in model.modules():
        if stride_in_1x1 and isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    fields = {part.name: part.receptive_field for part in analyze(model).parts}
    expected = closed_form(resnet_layers(blocks, stride_in_1x1=stride_in_1x1))
    assert fields["layer4"] == (expected, expected)


def test_convnext_is_followed_through_its_channels_last_layers():
    with torch.device("meta"):
        model = torchvision.models.convnext_tiny().features
    depthwise = [[(7, 1)] * n for n in (3, 3, 9, 3)]
    layers = [(4, 4), *depthwise[0]] + [item for stage in depthwise[1:] for item in [(2, 2), *stage]]
    assert analyze(model, (64, 64)).parts[-1].receptive_field == (closed_form(layers),) * 2


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


BOUNDED = {
    "conv": nn.Conv2d(1, 1, 3, padding=1),
    "dilated": nn.Conv2d(1, 1, 3, padding=2, dilation=2),
    "oblong": nn.Conv2d(1, 1, (1, 5), padding=(0, 2)),
    "strided then conv": nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 3, 1, 1)),
    "average pool": nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2)),
    "adaptive pool": nn.AdaptiveAvgPool2d(16),
    "unfold": nn.Sequential(nn.Unfold(3, padding=1), nn.Unflatten(2, (64, 64))),
    "space to depth": Function(lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)),
    "branches off centre": Function(lambda x: F.avg_pool2d(x, 2) + F.conv2d(x, torch.ones(1, 1, 3, 3), None, 2, 1)),
    "zero padding": nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(1, 1, 3)),
    "channels last": Function(lambda x: (x.permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2)),
    "tokens and back": Function(lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).view(x.shape)),
}


@pytest.mark.parametrize("layer", BOUNDED.values(), ids=BOUNDED)
def test_field_is_what_gradients_reach(layer):
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    y = layer(x)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    reached = [(x.grad[0, 0] != 0).any(dim).nonzero() for dim in (1, 0)]
    assert field_of(layer, channels=1) == tuple((r.max() - r.min() + 1).item() for r in reached)


def test_a_write_into_a_slice_reaches_the_whole():
    def forward(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[:, :1] = F.avg_pool2d(x, 3, 1, 1)[:, :1]
        return out

    assert field_of(Function(forward)) == (3, 3)


UNBOUNDED = {
    "global pooling": nn.AdaptiveAvgPool2d(1),
    "gate": Function(lambda x: x * x.mean((2, 3), keepdim=True)),
    "softmax over positions": Function(lambda x: x.flatten(2).softmax(-1)),
    "attention": Function(lambda x: x.flatten(2).transpose(1, 2) @ x.flatten(2)),
    "sampling": Function(lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)),
}


@pytest.mark.parametrize("layer", UNBOUNDED.values(), ids=UNBOUNDED)
def test_what_mixes_all_positions_is_unbounded(layer):
    assert field_of(layer) == (math.inf, math.inf)


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.Linear(3, 5)], ids=["norm", "linear"])
def test_mixing_channels_alone_leaves_the_field(layer):
    assert field_of(Function(lambda x: layer(x.permute(0, 2, 3, 1)))) == (1, 1)


def test_upsampling_is_bounded_from_above():
    (field, _) = field_of(nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=2, mode="bilinear")))
    assert 8 <= field <= 16
