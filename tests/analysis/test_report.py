"""`analyze`: cost, shapes and contents, against torch's own counter, published numbers and real forwards."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbone_kit.analysis import analyze, capture, count_parameters


def on_meta(name: str, **kwargs) -> nn.Module:
    with torch.device("meta"):
        return getattr(torchvision.models, name)(**kwargs)


@pytest.mark.parametrize(("name", "gmacs"), [("resnet18", 1.814), ("resnet50", 4.089), ("resnet152", 11.514)])
def test_published_gmacs(name, gmacs):
    assert analyze(on_meta(name)).macs / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", "convnext_tiny", "swin_t", "vit_b_16"])
def test_macs_equal_torch_flop_counter(name):
    model = on_meta(name)
    report = analyze(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert 2 * report.macs == counter.get_total_flops()
    assert report.uncounted_ops == {}


def test_transposed_and_deformable_convolutions_by_their_formulas():
    up = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    assert analyze(up, (8, 8)).macs == 8 * 8 * 4 * (6 // 2) * 9
    layer = torchvision.ops.DeformConv2d(4, 6, 3, padding=1)

    class Deformable(nn.Module):
        def forward(self, x):
            return layer(x, x.new_zeros(1, 18, *x.shape[2:]))

    assert analyze(Deformable(), (8, 8), in_channels=4).macs == 8 * 8 * 6 * 4 * 9


def test_operations_without_a_formula_are_listed():
    class Spectral(nn.Module):
        def forward(self, x):
            return torch.relu(torch.fft.rfft2(x).real)

    report = analyze(Spectral(), (8, 8))
    assert report.uncounted_ops == {"_fft_r2c": 1}
    assert report.light_ops["relu"] == 1


def test_shapes_equal_a_real_forward():
    model = torchvision.models.resnet18().eval()
    maps = capture(model, torch.rand(1, 3, 70, 45))
    for part in analyze(model, (70, 45)).parts[:-1]:
        assert (1, part.channels, *part.size) == tuple(maps[part.name].shape), part.name


def test_strides_are_traced_not_divided():
    model = torchvision.models.resnet18()
    strides = {part.name: part.stride for part in analyze(model, (97, 97)).parts}
    assert [strides[name] for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4")] == [
        2,
        4,
        4,
        8,
        16,
        32,
    ]
    assert strides["avgpool"] is None  # one value of the whole picture has no neighbour


def test_strides_follow_positions_in_other_layouts_and_are_left_out_where_they_are_lost():
    class Halved(nn.Module):
        def forward(self, x):
            x = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 1, 0, 1))
            return x[:, ::2, ::2].permute(0, 3, 1, 2)

    model = nn.Sequential(nn.Conv2d(3, 4, 2, 2), Halved(), nn.ConvTranspose2d(4, 4, 2, 2), nn.PixelUnshuffle(2))
    assert [part.stride for part in analyze(model, (64, 64)).parts] == [2, 4, 2, None]


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.BatchNorm1d(4)])
def test_what_a_real_forward_refuses_is_refused(norm):
    with pytest.raises((RuntimeError, ValueError), match="expected"):
        analyze(nn.Sequential(nn.Conv2d(3, 4, 1), norm), (6, 6))


def test_activations_are_the_new_tensors():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten())
    assert analyze(model, (10, 10)).activation_bytes == 8 * 10 * 10 * 4


def test_4k_costs_nothing():
    report = analyze(on_meta("resnet50"), (2160, 3840))
    assert report.parts[7].size == (68, 120)


def test_the_model_is_left_as_it_was():
    model = torchvision.models.resnet18()
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    analyze(model)
    capture(model, torch.rand(1, 3, 32, 32))
    assert [m.training for m in (model, model.layer1, model.layer2)] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Described(nn.Module):
    """A net with `describe()`, a dilated stage, a plugin, a frozen stem and a stage that the forward leaves out."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4))
        self.layer1.gate, self.layer1.plugin_names = nn.Sigmoid(), ("gate",)
        self.layer2 = nn.Sequential(nn.Conv2d(4, 4, 3))
        self.conv1.requires_grad_(False)
        self.norm1.requires_grad_(False)
        self.layer1[1].requires_grad_(False)

    def forward(self, x):
        return (self.layer1(torch.relu(self.norm1(self.conv1(x)))),)

    def describe(self):
        return [
            dict(name="stem", modules=("conv1", "norm1"), channels=4, stride=2, blocks=0, out_index=None),
            dict(name="layer1", modules=("layer1",), channels=4, stride=2, blocks=2, out_index=0),
            dict(name="layer2", modules=("layer2",), channels=4, stride=2, blocks=1, out_index=None),
        ]


def test_a_model_is_reported_by_its_own_parts():
    stem, layer1, layer2 = analyze(Described(), (32, 32)).parts
    assert (stem.name, stem.size, stem.stride, stem.contents.frozen, stem.out_index) == (
        "stem",
        (16, 16),
        2,
        "all",
        None,
    )
    assert (layer1.blocks, layer1.out_index, layer1.contents.dilations) == (2, 0, (2,))
    assert (layer1.contents.frozen, layer1.contents.plugins) == ("norms", {"Sigmoid": 1})
    assert (layer2.size, layer2.macs, layer2.contents.parameters) == (None, 0, 148)


def test_parts_add_up():
    model = on_meta("resnet50")
    report = analyze(model)
    assert sum(part.contents.parameters for part in report.parts) == report.contents.parameters == 25_557_032
    assert sum(part.macs for part in report.parts) == report.macs


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 3)
    layer.bias.requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer)) == 12
    assert count_parameters(nn.Sequential(layer, layer), trainable_only=True) == 9
