"""What a family of its own builds on: block arguments, layers on the way out, the order of parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from backbone_kit import build_backbone
from backbone_kit.backbones import Backbone, ResNet
from backbone_kit.backbones.blocks import Bottleneck
from backbone_kit.layers import ConvModule
from backbone_kit.layers.conv_norm import Chain, add

from .test_peers import LAYERS, randomized, relative_difference, served


@pytest.mark.parametrize(("name", "groups", "base_width"), [("resnext50_32x4d", 32, 4), ("wide_resnet50_2", 1, 128)])
@torch.no_grad()
def test_width_and_groups_make_torchvisions_resnext_and_wide_resnet(name: str, groups: int, base_width: int) -> None:
    peer = randomized(getattr(torchvision.models, name)(weights=None))
    levels = torchvision.models._utils.IntermediateLayerGetter(peer, LAYERS)
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    ours = served(ResNet(50, cardinality=groups, base_width=base_width), peer.state_dict())(x)
    assert relative_difference(ours, list(levels(x).values())) < 1e-5


def test_plugins_and_dcn_take_the_width() -> None:
    plugins = [
        {"cfg": {"type": "ContextBlock", "ratio": 0.25, "postfix": position}, "position": position}
        for position in Bottleneck.positions
    ]
    dcn = {"type": "DCNv2", "deform_groups": 2}
    block = Bottleneck(256, 64, width=128, groups=4, plugins=plugins, dcn=dcn).eval()  # type: ignore[arg-type]
    widths = [getattr(block, name).conv_mask.in_channels for name in block.plugin_names]
    assert widths == [128, 128, 128, 128, 256]
    assert (block.conv2.groups, block.conv2.weight.shape) == (4, (128, 32, 3, 3))
    assert block(torch.randn(1, 256, 8, 8)).shape == (1, 256, 8, 8)


class Normed(Backbone):
    """Each stage doubles; each output is normalised on its way out."""

    def __init__(self, stages: int = 2, **kwargs: Any) -> None:
        super().__init__(num_stages=2, **kwargs)
        self.add_stem(nn.Conv2d(3, 4, 2, stride=2), channels=4, stride=2)
        self.add_pool(nn.AvgPool2d(2), stride=4)
        for i in range(min(stages, self.stages_to_build)):
            norm = {f"norm{i}": nn.BatchNorm2d(4)}
            self.add_stage(f"stage{i}", nn.Sequential(nn.Conv2d(4, 4, 1)), channels=4, stride=4, out=norm)


def test_layers_on_the_way_out_are_applied_there_and_only_there() -> None:
    net = Normed().eval()
    for norm, factor in ((net.norm0, 2.0), (net.norm1, 3.0)):
        nn.init.constant_(norm.bias, factor)
    x = torch.randn(1, 3, 16, 16)
    first = net.stage0(net.pool(net.stem(x)))
    expected = (net.norm0(first), net.norm1(net.stage1(first)))
    for maps in (net(x), list(net.forward_intermediates(x).values())[1:]):
        for ours, theirs in zip(maps, expected):
            torch.testing.assert_close(ours, theirs)
    assert [part["modules"] for part in net.describe()] == [
        ("stem",),
        ("pool",),
        ("stage0", "norm0"),
        ("stage1", "norm1"),
    ]
    assert [part["stride"] for part in net.describe()] == [2, 4, 4, 4]


def test_they_freeze_and_rest_with_their_stage() -> None:
    net = Normed(frozen_stages=1).train()
    assert not any(parameter.requires_grad for parameter in net.norm0.parameters())
    assert not net.norm0.training
    assert net.norm1.training
    assert not Normed(norm_eval=True).train().norm1.training


class Dotted(Backbone):
    """Layers in containers, as other packages name them; a stage of two modules."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(num_stages=2, **kwargs)
        self.add_stem({"stem.conv": nn.Conv2d(3, 4, 2, stride=2), "stem.norm": nn.BatchNorm2d(4)}, channels=4, stride=2)
        for i in range(self.stages_to_build):
            layers = {f"down.{i}": nn.Conv2d(4, 4, 2, stride=2), f"blocks.{i}": nn.Sequential(nn.BatchNorm2d(4))}
            self.add_stage(f"stage{i}", layers, channels=4, stride=2 ** (i + 2), out={f"norm{i}": nn.BatchNorm2d(4)})


def test_dotted_names_are_keys_and_a_stage_may_have_several_modules() -> None:
    net = Dotted().eval()
    weights = [key for key in net.state_dict() if key.endswith("weight")]
    containers = [[f"{name}.{i}" for i in range(2)] for name in ("down", "blocks")]
    layers = ["stem.conv", "stem.norm", *containers[0], *(f"{name}.0" for name in containers[1]), "norm0", "norm1"]
    assert weights == [f"{layer}.weight" for layer in layers]
    with torch.no_grad():
        x = torch.randn(1, 3, 16, 16)
        first = net.blocks[0](net.down[0](net.stem(x)))
        levels = net.forward_intermediates(x)
        torch.testing.assert_close(levels["stage0"], net.norm0(first))
        torch.testing.assert_close(net(x)[1], net.norm1(net.blocks[1](net.down[1](first))))
    assert net.describe()[1] | {"modules": ("down.0", "blocks.0", "norm0"), "blocks": 1} == net.describe()[1]
    assert [part["blocks"] for part in net.describe()] == [0, 1, 1]


def test_all_modules_of_a_stage_freeze_together() -> None:
    net = Dotted(frozen_stages=1).train()
    frozen = {key.rpartition(".")[0] for key, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stem.conv", "stem.norm", "down.0", "blocks.0.0", "norm0"}
    training = {name for name, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d) and layer.training}
    assert training == {"blocks.1.0", "norm1"}
    left = Dotted(out_indices=(0,), prune_stages=True)
    assert {name for name, _ in left.named_modules() if name.startswith(("down.", "blocks."))} == {
        "down.0",
        "blocks.0",
        "blocks.0.0",
    }


class Branched(Backbone):
    """One trunk whose layers stand in a child of their own; two levels from its end and one from its middle."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(num_stages=1, num_levels=3, **kwargs)
        self.add_stem({}, channels=3, stride=1)
        self.add_stage(
            "middle", {"body.0": nn.Conv2d(3, 4, 2, stride=2), "body.1": nn.BatchNorm2d(4)}, channels=4, stride=2
        )
        end = {"body.2": nn.Conv2d(4, 4, 2, stride=2)}
        self.add_level("end", end, channels=4, stride=4, out={"heads.0": nn.Conv2d(4, 5, 1)})
        self.add_level("wide", {}, channels=6, stride=4, out={"heads.1": nn.Conv2d(4, 6, 1)})


def test_a_stage_may_have_several_levels_and_its_layers_any_place() -> None:
    net = Branched(out_indices=(2, 0)).eval()
    x = torch.randn(1, 3, 16, 16)
    middle = net.body[1](net.body[0](x))
    expected = {"stem": x, "middle": middle, "end": net.heads[0](net.body[2](middle))}
    expected["wide"] = net.heads[1](net.body[2](middle))
    levels = net.forward_intermediates(x)
    assert list(levels) == list(expected) == [info.name for info in net.feature_info]
    for name, theirs in expected.items():
        torch.testing.assert_close(levels[name], theirs)
    for ours, name in zip(net(x), ("wide", "middle")):
        torch.testing.assert_close(ours, expected[name])
    assert (net.out_channels, net.out_strides) == ((6, 4), (4, 2))
    described = [(part["modules"], part["out_index"]) for part in net.describe()]
    assert described == [(("body.0", "body.1"), 1), (("body.2", "heads.0"), None), (("heads.1",), 0)]
    assert list(net.state_dict())[-2:] == ["heads.1.weight", "heads.1.bias"]


def test_levels_that_are_not_needed_are_not_run_and_freeze_with_their_stage() -> None:
    net = Branched(out_indices=(0,))
    net.body[2].register_forward_hook(lambda *_: pytest.fail("nothing needs this"))
    net.eval()(torch.randn(1, 3, 16, 16))
    assert all(p.requires_grad for p in Branched(frozen_stages=0).parameters())
    assert not any(p.requires_grad for p in Branched(frozen_stages=1).parameters())
    assert not Branched(frozen_stages=1).train().body[1].training


class Modular(Backbone):
    """Stages that are a layer of several parts, a stack of two, and a convolution with its norm."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(num_stages=3, **kwargs)
        norm_cfg = {"type": "BN"}
        self.add_stem(nn.Conv2d(3, 4, 1), channels=4, stride=1)
        self.add_stage("layer", ConvModule(4, 4, 3, padding=1, norm_cfg=norm_cfg), channels=4, stride=1)
        stack = nn.Sequential(*(ConvModule(4, 4, 1, norm_cfg=norm_cfg) for _ in range(2)))
        self.add_stage("stack", stack, channels=4, stride=1)
        self.add_stage("chain", Chain(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), channels=4, stride=1)


def names_of_units(net: Backbone) -> list[list[str]]:
    names = {module: name for name, module in net.named_modules()}
    return [[names[module] for module in unit] for unit in net.units()]


def test_what_is_no_stack_of_blocks_is_one() -> None:
    net = Modular()
    assert [part["blocks"] for part in net.describe()] == [0, 1, 2, 1]
    assert names_of_units(net) == [["stem"], ["layer"], ["stack.0"], ["stack.1"], ["chain"]]


def test_as_many_transitions_as_modules_are_no_blocks() -> None:
    with torch.device("meta"):
        units = names_of_units(build_backbone("hrnet_w18"))
    modules = [f"stage3.{i}.{name}" for i in range(4) for name in ("branches", "fuse_layers")]
    assert units[3] == [*modules, "transition3"]


def test_a_bias_of_a_convolution_starts_at_zero() -> None:
    assert not Normed().stem.bias.any()


def test_parts_in_a_wrong_order_or_number_are_told() -> None:
    class Headless(Backbone):
        def __init__(self) -> None:
            super().__init__(num_stages=1)
            self.add_stage("stage0", nn.Identity(), channels=3, stride=1)

    with pytest.raises(RuntimeError, match=r"add_stage\('stage0'\) comes before add_stem"):
        Headless()
    with pytest.raises(RuntimeError, match="Normed added 1 of 2 levels"):
        Normed(stages=1)(torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("grad", [True, False])
def test_a_block_sums_in_the_memory_of_its_residual_where_no_gradient_needs_it(grad: bool) -> None:
    block = Bottleneck(16, 4).eval()
    x = torch.randn(1, 16, 5, 5)
    before, expected = x.clone(), torch.relu(x + block.residual(x)).detach()
    out, other = torch.ones(1, 16, 5, 5), torch.ones(1, 16, 5, 5, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(block(x), expected)
        assert (add(out, x) is out) is not grad
        assert add(out, other).dtype == torch.float64  # as promotion has it
    assert torch.equal(x, before)
