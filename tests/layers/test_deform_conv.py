"""Deformable convolution is torchvision's, and DCN and DCNv2 are MMDetection's."""

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d as compiled

from backbone_kit import ConfigError
from backbone_kit.checkpoint import load_checkpoint
from backbone_kit.layers import DCN, DCNv2, build_conv_layer, deform_conv2d

from ..torch_versions import dynamic_export

CASES = {
    "plain": dict(kernel=(3, 3), padding=1),
    "stride": dict(kernel=(3, 3), stride=2, padding=1, size=(13, 17)),
    "two_axes": dict(kernel=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), size=(11, 6)),
    "dilation": dict(kernel=(5, 3), padding=2, dilation=2, size=(13, 11)),
    "groups": dict(kernel=(3, 3), padding=1, groups=4),
    "moving_groups": dict(kernel=(3, 3), padding=1, moving=2),
    "more_moving_groups_than_groups": dict(kernel=(3, 3), padding=1, groups=2, moving=4),
    "pointwise": dict(kernel=(1, 1), size=(5, 4)),
    "map_smaller_than_kernel": dict(kernel=(3, 3), padding=1, size=(1, 2)),
    "still": dict(kernel=(3, 3), padding=1, scale=0.0),  # positions at -1, at the size and on pixels
    "far_outside": dict(kernel=(3, 3), padding=1, scale=100.0),
    "beyond_integers": dict(kernel=(3, 3), padding=1, scale=1e30),
    "no_images": dict(kernel=(3, 3), padding=1, n=0),
}


def tensors(
    kernel: tuple[int, int],
    *,
    size: tuple[int, int] = (7, 9),
    groups: int = 1,
    moving: int = 1,
    scale: float = 2.0,
    n: int = 2,
    masked: bool = True,
    **geometry: Any,
) -> tuple[list[Tensor | None], dict[str, Any]]:
    """Input, offset, weight, bias and mask in float64, and the arguments that go with them."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, weight, bias = draw(n, 8, *size), draw(4, 8 // groups, *kernel), draw(4)
    out = F.conv2d(x.new_empty(1, 8, *size), weight, None, **geometry, groups=groups).shape[2:]
    taps = moving * kernel[0] * kernel[1]
    mask = draw(n, taps, *out).sigmoid() if masked else None
    return [x, draw(n, 2 * taps, *out) * scale, weight, bias, mask], geometry


def directions(out: Tensor) -> Tensor:
    """A gradient of the output's shape and type."""
    return torch.arange(out.numel(), dtype=torch.float64).cos().view(out.shape).to(out.dtype)


def run(function: Any, arguments: Sequence[Tensor | None], geometry: dict[str, Any]) -> list[Tensor]:
    """The output and the gradients of everything that has one."""
    x, offset, weight, bias, mask = leaves = [None if t is None else t.clone().requires_grad_() for t in arguments]
    out = function(x, offset, weight, bias, **geometry, mask=mask)
    out.backward(directions(out))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_torchvisions(case: str, masked: bool) -> None:
    arguments, geometry = tensors(**CASES[case], masked=masked)
    for ours, theirs in zip(run(deform_conv2d, arguments, geometry), run(compiled, arguments, geometry), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def plain(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, **geometry: Any) -> Tensor:
    """`deform_conv2d` as compilers and exporters see it."""
    with mock.patch("backbone_kit.layers.deform_conv._recorded", return_value=True):
        return deform_conv2d(x, offset, weight, bias, **geometry, mask=mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_plain_operators_compute_the_same(case: str, masked: bool) -> None:
    arguments, geometry = tensors(**CASES[case], masked=masked)
    for ours, theirs in zip(run(plain, arguments, geometry), run(compiled, arguments, geometry), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alone", range(5), ids=["input", "offset", "weight", "bias", "mask"])
def test_one_gradient_alone_is_the_same(alone: int) -> None:
    arguments, geometry = tensors(**CASES["moving_groups"])
    expected = run(deform_conv2d, arguments, geometry)[1 + alone]
    leaves = [t.clone().requires_grad_(i == alone) for i, t in enumerate(arguments) if t is not None]
    out = deform_conv2d(*leaves[:4], **geometry, mask=leaves[4])
    out.backward(directions(out))
    torch.testing.assert_close(leaves[alone].grad, expected)
    assert [leaf.grad is not None for leaf in leaves] == [i == alone for i in range(5)]


@pytest.mark.parametrize("groups", [1, 2])
def test_nothing_as_large_as_the_samples_is_kept_for_backward(groups: int) -> None:
    (x, offset, weight, bias, mask), geometry = tensors((3, 3), padding=1, size=(16, 16), groups=groups)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    leaves = [t.clone().requires_grad_() for t in (x, offset, weight, bias, mask)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        deform_conv2d(*leaves[:4], **geometry, mask=leaves[4])
    samples = 9 * x.nbytes
    assert max(kept.values()) <= samples / 2  # four factors for each of eight channels' samples


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_within_its_rounding(dtype: torch.dtype) -> None:
    arguments, geometry = tensors(**CASES["moving_groups"])
    halves = [t if t is None or i == 1 else t.to(dtype) for i, t in enumerate(arguments)]
    expected = run(compiled, [None if t is None else t.double() for t in halves], geometry)
    for ours, exact in zip(run(deform_conv2d, halves, geometry), expected, strict=True):
        error = (ours.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        assert error < 6 * torch.finfo(dtype).eps


@pytest.mark.slow
def test_gradients_have_gradients() -> None:
    (x, offset, weight, bias, mask), _ = tensors((2, 2), size=(3, 3), moving=2, groups=2)
    leaves = [t.detach().requires_grad_() for t in (x, offset, weight, bias, mask)]
    assert torch.autograd.gradgradcheck(lambda x, o, w, b, m: deform_conv2d(x, o, w, b, mask=m), leaves)


def test_gradients_are_right() -> None:
    (x, offset, weight, bias, mask), _ = tensors((3, 3), size=(4, 3), padding=1, moving=2, groups=2)
    leaves = [t.detach().requires_grad_() for t in (x, offset, weight, bias, mask)]
    assert torch.autograd.gradcheck(lambda x, o, w, b, m: deform_conv2d(x, o, w, b, padding=1, mask=m), leaves)


def test_without_movement_it_is_a_convolution() -> None:
    (x, offset, weight, bias, _), geometry = tensors((3, 3), stride=2, padding=1, masked=False)
    out = deform_conv2d(x, torch.zeros_like(offset), weight, bias, **geometry)
    torch.testing.assert_close(out, F.conv2d(x, weight, bias, **geometry))


def test_a_position_that_is_no_number_spoils_its_own_pixel_alone() -> None:
    (x, offset, weight, bias, mask), geometry = tensors((3, 3), padding=1)
    offset[1, 4, 2, 3] = torch.nan
    spoilt = deform_conv2d(x, offset, weight, bias, **geometry, mask=mask).isnan()
    assert spoilt[1, :, 2, 3].all()
    assert spoilt.sum() == 4


def test_channels_that_do_not_fit_are_named() -> None:
    x, weight = torch.zeros(1, 8, 5, 5), torch.zeros(4, 8, 3, 3)
    with pytest.raises(ValueError, match=r"`offset` has 9 channels; it needs 18 .* times a divisor of the map's 8"):
        deform_conv2d(x, torch.zeros(1, 9, 3, 3), weight)
    with pytest.raises(ValueError, match="`mask` has 9 channels; it needs 18, half of"):
        deform_conv2d(x, torch.zeros(1, 36, 3, 3), weight, mask=torch.ones(1, 9, 3, 3))


def layer(kind: str, **arguments: Any) -> Any:
    """A conv layer whose taps have moved."""
    torch.manual_seed(0)
    built = build_conv_layer(dict(type=kind, **arguments), 8, 12, 3, stride=2, padding=1, bias=False)
    nn.init.normal_(built.conv_offset.weight, std=0.2)
    return built


@pytest.mark.parametrize("groups", [dict(), dict(groups=4, deform_groups=2)])
def test_layers_equal_the_compiled_operator(groups: dict[str, int]) -> None:
    x = torch.randn(2, 8, 13, 9)
    dcn, dcn2 = layer("DCN", **groups), layer("DCNv2", **groups)
    torch.testing.assert_close(dcn(x), compiled(x, dcn.conv_offset(x), dcn.weight, None, 2, 1), rtol=1e-4, atol=1e-5)
    offset, offset_rest, mask = dcn2.conv_offset(x).chunk(3, dim=1)
    expected = compiled(x, torch.cat((offset, offset_rest), 1), dcn2.weight, None, 2, 1, mask=mask.sigmoid())
    torch.testing.assert_close(dcn2(x), expected, rtol=1e-4, atol=1e-5)


def test_layers_have_mmdets_state_dict() -> None:
    def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in module.state_dict().items()}

    assert shapes(DCN(8, 12, 3, groups=2, deform_groups=4)) == {
        "weight": (12, 4, 3, 3),
        "conv_offset.weight": (72, 8, 3, 3),
        "conv_offset.bias": (72,),
    }
    assert shapes(DCNv2(8, 12, (3, 1))) == {
        "weight": (12, 8, 3, 1),
        "bias": (12,),
        "conv_offset.weight": (9, 8, 3, 1),
        "conv_offset.bias": (9,),
    }


@pytest.mark.parametrize("kind", ["DCN", "DCNv2", "SAC"])
def test_a_pretrained_net_may_lack_what_moves_the_taps(kind: str) -> None:
    net = build_conv_layer(dict(type=kind), 8, 12, 3, padding=1, bias=False)
    report = load_checkpoint(net, {"weight": torch.randn(12, 8, 3, 3)})
    assert {key.split(".")[0] for key in report.new} == set(net.brings_new) & set(dir(net))
    assert report.missing == ()


@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_taps_rest_on_the_grid_after_any_initialisation(kind: str) -> None:
    built = build_conv_layer(dict(type=kind), 8, 12, 3, padding=1, bias=False)
    x = torch.randn(1, 8, 5, 5)
    for _ in range(2):
        share = 1.0 if kind == "DCN" else 0.5
        torch.testing.assert_close(built(x), share * F.conv2d(x, built.weight, padding=1), rtol=1e-4, atol=1e-5)
        nn.init.normal_(built.conv_offset.weight)
        nn.init.normal_(built.conv_offset.bias)
        built.init_weights()


def test_the_old_name_of_deform_groups_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="`deformable_groups` is called `deform_groups` now") as caught:
        built = build_conv_layer(dict(type="DCNv2", deformable_groups=4), 8, 12, 3)
    assert built.deform_groups == 4
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(deform_groups=3), r"deform_groups: DCN: must divide `in_channels` \(=8\), got 3"),
        (dict(deform_groups=0), r"deform_groups: DCN: must divide `in_channels` \(=8\), got 0"),
        (dict(deform_groups=2, deformable_groups=2), r"deformable_groups: DCN: is the old name of `deform_groups`"),
        (dict(bias=True), "bias: DCN: must be False, a DCN has none; DCNv2 can have one"),
        (dict(deform_group=2), "DCN has no argument 'deform_group'; did you mean 'deform_groups'"),
        (dict(deform_groups="2"), "deform_groups: must be an int or None, got '2'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_conv_layer(dict(type="DCN", **arguments), 8, 12, 3)


def test_a_map_smaller_than_the_kernel_is_refused_as_by_a_convolution() -> None:
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        DCN(8, 12, 3)(torch.zeros(1, 8, 2, 2))


def test_layers_compile_whole_and_train() -> None:
    torch._dynamo.reset()
    net = layer("DCNv2", groups=2, deform_groups=2)
    x = torch.randn(2, 8, 9, 7)
    out = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(out, net(x), rtol=1e-4, atol=1e-5)
    out.square().sum().backward()
    compiled_gradient = net.conv_offset.weight.grad.clone()
    net.zero_grad()
    net(x).square().sum().backward()
    torch.testing.assert_close(compiled_gradient, net.conv_offset.weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize("groups", [dict(), dict(groups=4, deform_groups=2)])
def test_layers_export_for_any_size(groups: dict[str, int]) -> None:
    net = layer("DCNv2", **groups).eval()
    any_size = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    program = torch.export.export(net, (torch.randn(2, 8, 9, 7),), dynamic_shapes=(any_size,))
    x = torch.randn(3, 8, 12, 21)
    torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_layers_export_for_any_size_behind_strides(kind: str) -> None:
    convs = [nn.Conv2d(3, 8, 3, 2, 1), *(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(2))]
    net = nn.Sequential(*convs, layer(kind)).eval()
    any_size = {0: torch.export.Dim("n", min=1), 2: torch.export.Dim("h", min=64), 3: torch.export.Dim("w", min=64)}
    program = torch.export.export(net, (torch.randn(2, 3, 96, 128),), dynamic_shapes=(any_size,))
    x = torch.randn(3, 3, 65, 97)
    torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


def test_layers_run_on_the_meta_device() -> None:
    assert layer("DCNv2").to("meta")(torch.empty(2, 8, 9, 7, device="meta")).shape == (2, 12, 5, 4)


@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_layers_train_under_autocast_in_either_memory_format(kind: str) -> None:
    net = layer(kind)
    x = torch.randn(2, 8, 9, 7)
    expected = net(x)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        leaf = x.detach().to(memory_format=memory_format).requires_grad_()
        torch.testing.assert_close(net(leaf), expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(leaf)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.1 * expected.std().item())
        out.float().sum().backward()
        assert leaf.grad.isfinite().all()


def test_positions_are_exact_in_half_precision() -> None:
    x = torch.zeros(1, 8, 1, 1001)
    x[..., 999] = 1
    net = DCN(8, 4, 1, bias=False)
    assert net.bfloat16()(x.bfloat16()).nonzero()[:, 3].unique().tolist() == [999]
