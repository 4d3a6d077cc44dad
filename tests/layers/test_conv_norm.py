"""Convolution and norm as one: PyTorch's own two layers are the reference, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from backbone_kit.layers import ConvModule, ConvWS2d, FrozenBatchNorm2d, fold_norms
from backbone_kit.layers.conv_norm import Chain, conv_norm, run_layers

from ..kept import kept_bytes

SHAPES: dict[str, dict[str, Any]] = {
    "3x3": dict(kernel_size=3, padding=1),
    "with_bias": dict(kernel_size=1, bias=True),
    "grouped": dict(kernel_size=3, groups=2, padding=(2, 0)),
    "depthwise": dict(kernel_size=3, groups=4, stride=2, padding=1),
    "dilated": dict(kernel_size=(3, 2), dilation=(2, 1), stride=(1, 2)),
}
NORMS: dict[str, Callable[[], nn.Module]] = {
    "BN": lambda: nn.BatchNorm2d(8),
    "eps": lambda: nn.BatchNorm2d(8, eps=0.3),
    "without_affine": lambda: nn.BatchNorm2d(8, affine=False),
    "SyncBN": lambda: nn.SyncBatchNorm(8),
    "FrozenBN": lambda: FrozenBatchNorm2d(8),
    "gamma_0": lambda: _gamma_of_0(),
}


def _gamma_of_0() -> nn.Module:
    norm = nn.BatchNorm2d(8)
    nn.init.zeros_(norm.weight)
    return norm


def pair(shape: str = "3x3", norm: str = "BN") -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 8, **{"bias": False, **SHAPES[shape]}), NORMS[norm]())
    layers[1].running_mean.normal_()
    layers[1].running_var.uniform_(0.5, 1.5)
    if isinstance(layers[1].bias, nn.Parameter) and norm != "gamma_0":
        nn.init.uniform_(layers[1].weight, 0.5, 1.5)
        nn.init.normal_(layers[1].bias)
    return layers.double().train().eval()


def maps(side: int = 9) -> Tensor:
    return torch.randn(2, 4, side, side - 1, dtype=torch.float64, requires_grad=True)


def is_folded(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ == "_ScaledConvBackward"


def gradients(run: Callable[[Tensor], Tensor], layers: nn.Module, x: Tensor) -> dict[str, Tensor]:
    y = run(x)
    torch.manual_seed(1)
    wanted = {"x": x, **dict(layers.named_parameters())}
    found = torch.autograd.grad(y, list(wanted.values()), torch.randn_like(y))
    return {"y": y, **dict(zip(wanted, found))}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for key, expected in theirs.items():
        torch.testing.assert_close(ours[key], expected, rtol=1e-9, atol=1e-9, msg=f"{key}: {{}}".format)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_computes_and_learns_what_the_two_layers_do(shape: str, norm: str) -> None:
    layers, x = pair(shape, norm), maps()
    assert is_folded(conv_norm(*layers, x))
    ours = gradients(lambda x: conv_norm(*layers, x), layers, x)
    assert_same(ours, gradients(layers, layers, x))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), None])
@pytest.mark.parametrize("shape", ["with_bias", "depthwise"])
def test_what_is_added_and_what_follows_run_with_it(shape: str, act: nn.Module | None) -> None:
    layers, x = pair(shape), maps()
    sums = nn.Module()
    sums.layers, sums.shortcut = layers, nn.Parameter(torch.randn_like(layers(x)))
    folded = conv_norm(*layers, x, act, sums.shortcut)
    assert is_folded(folded) is isinstance(act, nn.ReLU)
    ours = gradients(lambda x: conv_norm(*layers, x, act, sums.shortcut), sums, x)
    plain = nn.Identity() if act is None else act
    assert_same(ours, gradients(lambda x: plain(layers(x) + sums.shortcut), sums, x))
    fold_norms(layers, False)
    assert_same(gradients(lambda x: conv_norm(*layers, x, act, sums.shortcut), sums, x), ours)


def test_a_relu_that_is_listened_to_is_called() -> None:
    relu, heard = nn.ReLU(), []
    relu.register_forward_hook(lambda *_: heard.append(True))
    x = maps()
    torch.testing.assert_close(conv_norm(*pair(), x, relu), pair()(x).relu())
    assert heard == [True]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own forward mode
@pytest.mark.parametrize("act", [None, nn.ReLU()])
@pytest.mark.parametrize("shape", ["with_bias", "grouped", "dilated"])
def test_gradients_and_their_gradients_are_those_of_finite_differences(shape: str, act: nn.Module | None) -> None:
    layers = pair(shape)

    def run(x: Tensor, shortcut: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layers.named_parameters()]
        given = {f"0.{n}": p for n, p in zip(names, parameters)}
        y: Tensor = torch.func.functional_call(_Folded(layers), given, (x, *((act, shortcut) if act else ())))
        return y

    inputs = (maps(6), torch.randn_like(layers(maps(6))).requires_grad_(), *layers.parameters())
    if act is None:
        inputs[1].requires_grad_(False)
    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, inputs)


class _Folded(nn.ModuleList):
    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__([layers])

    def forward(self, x: Tensor, *following: Any) -> Tensor:
        return conv_norm(*self[0], x, *following)


def test_gradients_of_each_picture_are_found_by_vmap() -> None:
    net = _Folded(pair("with_bias"))
    parameters = dict(net.named_parameters())
    x = maps().detach()

    def loss(parameters: dict[str, Tensor], picture: Tensor) -> Tensor:
        return torch.func.functional_call(net, parameters, (picture[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for index, picture in enumerate(x):
        net.zero_grad()
        net[0](picture[None]).square().sum().backward()
        for key, parameter in parameters.items():
            torch.testing.assert_close(each[key][index], parameter.grad)


@pytest.mark.parametrize("trains", [["0.weight"], ["1.weight"], ["1.bias"], ["1.weight", "1.bias"]])
def test_only_what_trains_gets_a_gradient(trains: list[str]) -> None:
    layers, x = pair(), maps().detach()
    for name, parameter in layers.named_parameters():
        parameter.requires_grad_(name in trains)
    reference = copy.deepcopy(layers)
    conv_norm(*layers, x).square().sum().backward()
    reference(x).square().sum().backward()
    for (name, ours), expected in zip(layers.named_parameters(), reference.parameters()):
        assert (ours.grad is not None) is (name in trains)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, expected.grad)


SMALL = 8 * 8 * 4  # a few numbers a channel: scale, shift and what leads to them


def test_nothing_is_kept_but_the_input() -> None:
    layers, x = Chain(*pair(), nn.ReLU(inplace=True)), maps(40)
    size = x.nbytes
    assert 3 * size <= kept_bytes(layers, x) <= 3 * size + SMALL  # and the output, twice as large, by the ReLU
    assert kept_bytes(nn.Sequential(*layers), x) >= 5 * size  # the map between them too


def test_where_the_filters_are_frozen_the_input_is_not_kept() -> None:
    layers, x = pair().requires_grad_(False), maps(40)
    assert kept_bytes(lambda x: conv_norm(*layers, x), x, layers) <= SMALL
    assert kept_bytes(lambda x: conv_norm(*layers, x), x.detach(), layers) == 0


def test_a_filter_that_is_long_for_its_map_is_left() -> None:
    layers = pair()  # 36 weights a filter
    assert is_folded(conv_norm(*layers, torch.randn(2, 4, 3, 3, dtype=torch.float64)))
    assert not is_folded(conv_norm(*layers, torch.randn(1, 4, 3, 3, dtype=torch.float64)))


def _hook(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda *_: None)


def _pre_hook(layer: nn.Module) -> None:
    layer.register_forward_pre_hook(lambda *_: None)


def _backward_hook(layer: nn.Module) -> None:
    layer.register_full_backward_hook(lambda *_: None)


def _own_forward(layer: nn.Module) -> None:
    layer.forward = layer.forward  # type: ignore[method-assign]


LEFT: dict[str, Callable[[nn.Sequential], Any]] = {
    "hook_of_conv": lambda pair: _hook(pair[0]),
    "hook_of_norm": lambda pair: _hook(pair[1]),
    "pre_hook": lambda pair: _pre_hook(pair[1]),
    "backward_hook": lambda pair: _backward_hook(pair[0]),
    "forward_of_its_own": lambda pair: _own_forward(pair[0]),
    "parametrization": lambda pair: weight_norm(pair[0]),
    "training": lambda pair: pair.train(),
    "switched_off": lambda pair: fold_norms(pair, False),
    "no_statistics": lambda pair: pair.__setitem__(1, nn.BatchNorm2d(8, track_running_stats=False).double()),
    "another_conv": lambda pair: pair.__setitem__(0, ConvWS2d(4, 8, 3).double()),
    "another_norm": lambda pair: pair.__setitem__(1, nn.GroupNorm(2, 8).double()),
    "padding_by_name": lambda pair: pair.__setitem__(0, nn.Conv2d(4, 8, 4, padding="same").double()),
    "reflected": lambda pair: pair.__setitem__(0, nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect").double()),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_sure_to_be_one_convolution_is_left(case: str) -> None:
    layers, x = pair(), maps()
    LEFT[case](layers)
    y = run_layers(layers, x)
    assert not is_folded(y)
    torch.testing.assert_close(y, layers[1](layers[0](x)), rtol=0, atol=0)


def test_hooks_of_all_modules_are_heard() -> None:
    layers, heard = pair(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: heard.append(module))
    try:
        run_layers(layers, maps())
    finally:
        handle.remove()
    assert heard == [*layers]


def test_it_can_be_switched_on_again() -> None:
    layers = fold_norms(fold_norms(pair(), False))
    assert is_folded(run_layers(layers, maps()))


def test_what_does_not_fit_is_refused_as_by_the_layers() -> None:
    with pytest.raises(RuntimeError, match="running_mean should contain 1 elements"):
        conv_norm(nn.Conv2d(4, 1, 1), nn.BatchNorm2d(8).eval(), torch.randn(1, 4, 3, 3))
    with pytest.raises(RuntimeError, match="Input type"):
        conv_norm(*pair(), torch.randn(2, 4, 9, 9))


def test_runs_without_gradients_and_graphs_take_the_layers_as_they_are() -> None:
    chain, x = Chain(*pair()), maps().detach()
    with torch.no_grad():
        torch.testing.assert_close(chain(x), chain[1](chain[0](x)), rtol=0, atol=0)
    targets = {node.target for node in torch.fx.symbolic_trace(chain).graph.nodes if node.op == "call_module"}
    assert targets == {"0", "1"}
    program = torch.export.export(chain, (x,))
    assert any("batch_norm" in str(node.target) for node in program.graph.nodes)


def test_chains_run_like_a_sequential_whatever_they_hold() -> None:
    conv, norm = pair()
    for layers in ([], [norm], [conv], [conv, conv.__class__(8, 4, 1).double(), nn.BatchNorm2d(4).double().eval()]):
        x = maps() if layers[:1] != [norm] else torch.randn(2, 8, 5, 5, dtype=torch.float64)
        torch.testing.assert_close(Chain(*layers)(x), nn.Sequential(*layers)(x))
    norm_first = [nn.BatchNorm2d(4).double().eval(), conv, nn.ReLU(), norm, conv.__class__(8, 8, 1).double()]
    torch.testing.assert_close(Chain(*norm_first)(x), nn.Sequential(*norm_first)(x))


@pytest.mark.parametrize("order", [("conv", "norm", "act"), ("norm", "conv", "act"), ("act", "conv", "norm")])
def test_conv_modules_are_folded_in_the_orders_that_allow_it(order: Any) -> None:
    block = ConvModule(4, 4, 3, padding=1, norm_cfg=dict(type="BN"), order=order, inplace=False).double().eval()
    x = maps(40)
    plain = kept_bytes(fold_norms(copy.deepcopy(block), False), x)
    assert (kept_bytes(block, x) < plain) is (order.index("norm") == order.index("conv") + 1)
    torch.testing.assert_close(block(x), fold_norms(block, False)(x))


def test_under_autocast_it_is_a_convolution_in_that_dtype() -> None:
    layers = pair().float()
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(lambda x: conv_norm(*layers, x), layers, x)
    assert ours["y"].dtype is torch.bfloat16
    for key, expected in gradients(layers, layers, x).items():
        assert ours[key].dtype is (torch.bfloat16 if key == "y" else torch.float32)
        difference = (ours[key] - expected).norm() / expected.norm()
        assert difference < 0.01, key  # bfloat16 has 8 bits


def test_it_is_folded_on_the_meta_device_too() -> None:
    y = conv_norm(*pair().to("meta"), maps().to("meta"))
    assert is_folded(y)
    assert y.shape == (2, 8, 9, 8)


def test_channels_last_stays() -> None:
    layers, x = pair().to(memory_format=torch.channels_last), maps(16).detach()
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    y = conv_norm(*layers, x)
    y.sum().backward()
    for tensor in (y, x.grad, layers[0].weight.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:The AccumulateGrad node:UserWarning")
@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_it_is_one_graph_that_keeps_as_little(autocast: bool) -> None:
    torch.compiler.reset()
    layers = Chain(*pair(), nn.ReLU(inplace=True), nn.Conv2d(8, 32, 3).double()).float()
    x = torch.randn(2, 4, 40, 40, requires_grad=True)
    compiled = torch.compile(layers, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours, expected = gradients(compiled, layers, x), gradients(layers, layers, x)
        for key, value in expected.items():
            tolerance = 0.02 if autocast else 1e-5
            torch.testing.assert_close(
                ours[key].float(), value.float(), rtol=tolerance, atol=tolerance * value.abs().max().item()
            )
        if not autocast:
            assert kept_bytes(compiled, x, layers) <= kept_bytes(layers, x) + SMALL


def test_data_parallel_training_sees_every_gradient(tmp_path: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = _Folded(pair("with_bias"))
        x = maps().detach()
        parallel = nn.parallel.DistributedDataParallel(copy.deepcopy(net))
        parallel(x).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    net[0](x).square().sum().backward()
    for ours, expected in zip(parallel.parameters(), net.parameters()):
        torch.testing.assert_close(ours.grad, expected.grad)
