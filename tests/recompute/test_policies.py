"""recompute=: in every backbone the same step, less held for backward, and what a budget says is what is held."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from backbone_kit import BACKBONES, build_backbone
from backbone_kit.backbones import Backbone, DetectoRS_ResNet, ResNet
from backbone_kit.errors import ConfigError
from backbone_kit.layers import fold_norms
from backbone_kit.optimize import prepare_for_inference

from ..backbones.test_contract import per_class_slowly, tiny
from ..kept import held_bytes, kept_bytes, most_bytes

pytestmark = pytest.mark.filterwarnings("ignore:.*running statistics that are still 0 and 1")
MIB = 2**20
STYLES = [{"norm_eval": False}, {"norm_eval": True, "frozen_stages": 1}]


def small(depth: int = 50, **options: Any) -> ResNet:
    torch.manual_seed(0)
    layers = options.pop("layers", (2, 1, 1, 1))
    defaults: dict[str, Any] = dict(norm_eval=False, base_channels=8, zero_init_residual=False, layers=layers)
    return ResNet(depth, **{**defaults, **options}).double().train()


def pictures(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 64, 64)), generator=torch.Generator().manual_seed(0)).double()


def step(net: Backbone, x: Tensor) -> dict[str, Tensor]:
    """Maps and gradients of one step, buffers and the random state behind its forward."""
    torch.manual_seed(1)
    maps = net(x)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    sum(y.square().mean() for y in maps).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {**gradients, **dict(net.named_buffers()), **{f"map {i}": y for i, y in enumerate(maps)}, "state": state}


def assert_same(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    assert ours.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-12, atol=1e-14, msg=f"{key}: {{}}".format)


class Convolutions(TorchDispatchMode):
    """How many run."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket is torch.ops.aten.convolution
        return func(*args, **(kwargs or {}))


def convolutions_in_backward(net: Backbone, x: Tensor) -> int:
    loss = sum(y.mean() for y in net(x))
    with Convolutions() as convolutions:
        loss.backward()
    return convolutions.count


@per_class_slowly
def test_every_backbone_takes_the_same_step_and_holds_less(kind: str) -> None:
    style = dict(STYLES[sum(map(ord, kind)) % 2])
    if issubclass(BACKBONES.get(kind), ResNet) and kind != "RegNet":
        style["base_channels"] = 16
    x = pictures()
    plain = tiny(kind, **style).double().train()
    before = copy.deepcopy(plain.state_dict())
    held = held_bytes(plain, x)
    plain.load_state_dict(before)
    expected = step(plain, x)
    for recompute, most in (("cheap", held - 1), ({"budget_mb": 0.5 * held / MIB}, 0.5 * held)):
        ours = tiny(kind, **style, recompute=recompute).double().train()
        ours.load_state_dict(before)
        assert held_bytes(ours, x) <= most
        ours.load_state_dict(before)
        if recompute == "cheap":
            assert convolutions_in_backward(ours, x) == 0
            ours.zero_grad()
            ours.load_state_dict(before)
        assert_same(step(ours, x), expected)


@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 1.2}])
@pytest.mark.parametrize(
    "options",
    [
        {"drop_path_rate": 0.5},
        {"depth": 18, "frozen_stages": 0},
        {"plugins": [{"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv3"}]},
        {"plugins": [{"cfg": {"type": "GeneralizedAttention", "num_heads": 2}, "position": "after_conv2"}]},
        {"plugins": [{"cfg": {"type": "DropBlock", "drop_prob": 0.3, "block_size": 3}, "position": "after_conv2"}]},
        {"norm_cfg": {"type": "SyncBN"}},
        {"norm_cfg": {"type": "GN", "num_groups": 4}, "conv_cfg": {"type": "ConvWS"}},
        {"dcn": {"type": "DCNv2"}, "stage_with_dcn": (False, True, True, True), "norm_eval": True},
        {"act_cfg": {"type": "GELU"}, "norm_eval": True},
    ],
)
def test_options_are_the_same_step_too(options: dict[str, Any], recompute: Any) -> None:
    x = pictures()
    assert_same(step(small(**options, recompute=recompute), x), step(small(**options), x))


def test_two_steps_before_one_backward() -> None:
    nets = [small(recompute=recompute) for recompute in (None, "cheap")]
    for net in nets:
        sum(net(pictures(n, 3, 64, 64))[0].square().mean() for n in (2, 3)).backward()
    for plain, ours in zip(*(net.parameters() for net in nets)):
        if plain.grad is not None:
            torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-12, atol=1e-14)


def test_bf16_and_channels_last_are_the_same_step() -> None:
    x = pictures().float().to(memory_format=torch.channels_last)
    steps = []
    for recompute in (None, "cheap", {"budget_mb": 0.5}):
        net = small(recompute=recompute).float().to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            steps.append(step(net, x))
    for ours in steps[1:]:
        assert_same(ours, steps[0])


def test_a_budget_under_autocast_counts_what_autocast_makes() -> None:
    x, budget = pictures(2, 3, 96, 96).float(), 0.9
    net = small(recompute={"budget_mb": budget}).float()

    def run(x: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    assert held_bytes(run, x) <= budget * MIB < held_bytes(fold_norms(small().float(), True), x)


@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 0.9}])
def test_every_hook_fires_as_often_as_without(recompute: Any) -> None:
    counts = []
    for net in (small(), small(recompute=recompute)):
        net(pictures())  # which plans
        fired: Counter[str] = Counter()
        for name, module in net.named_modules():
            module.register_forward_hook(lambda *_, name=name, fired=fired: fired.update([name]))
        for name, parameter in net.named_parameters():
            hook = parameter.register_post_accumulate_grad_hook
            hook(lambda _, name=name, fired=fired: fired.update([name]))
        assert convolutions_in_backward(net, pictures()) == 0 or isinstance(net.recompute, dict)
        counts.append(fired)
    assert counts[0] == counts[1]


def test_data_parallel_training_sees_every_gradient_once(tmp_path: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(small(recompute="cheap"))
        for _ in range(2):
            parallel.zero_grad()
            sum(y.square().mean() for y in parallel(pictures())).backward()
    finally:
        torch.distributed.destroy_process_group()
    net = small()
    for _ in range(2):
        net.zero_grad()
        sum(y.square().mean() for y in net(pictures())).backward()
    for ours, plain in zip(parallel.parameters(), net.parameters()):
        torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-12, atol=1e-14)


def test_folded_it_holds_no_more_than_without() -> None:
    x = pictures(2, 3, 96, 96)
    recipe: dict[str, Any] = dict(norm_eval=True, frozen_stages=1)
    ours, folded = small(**recipe, recompute="cheap"), small(**recipe)
    assert held_bytes(ours, x) < held_bytes(folded, x) < 0.6 * held_bytes(fold_norms(small(**recipe), False), x)


def test_of_a_resnet_with_batch_statistics_about_half_is_left() -> None:
    """A block gives up 6 of the 12 times its planes that it keeps: what is behind its norms; but one output in four."""
    x = pictures(2, 3, 96, 96)

    def held(blocks: int, recompute: Any) -> int:
        options: dict[str, Any] = dict(layers=(blocks, 1, 1, 1), base_channels=16, out_indices=(0,), frozen_stages=0)
        return held_bytes(small(**options, recompute=recompute), x)

    planes = 2 * 16 * 24 * 24 * 8  # bytes of a map as wide as the planes
    small_ones = 0.02 * planes  # statistics
    assert abs(held(9, None) - held(5, None) - 4 * 12 * planes) < 4 * small_ones
    assert abs(held(9, "cheap") - held(5, "cheap") - (4 * 6 + 4) * planes) < 4 * small_ones


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 2}])
def test_a_step_takes_less_at_its_peak_too(recompute: Any) -> None:
    """What is made again goes as soon as backward is done with it."""
    x = pictures(2, 3, 96, 96)
    nets = [small(layers=(3, 2, 2, 1), recompute=each) for each in (recompute, None)]
    ours, plain = (most_bytes(lambda net=net: sum(y.mean() for y in net(x)).backward()) for net in nets)
    assert ours < 0.85 * plain


def test_a_large_budget_has_nothing_run_again() -> None:
    x = pictures()
    net, roomy = small(), small(recompute={"budget_mb": 1000})
    assert held_bytes(roomy, x) == held_bytes(net, x)
    again = {}
    for name, each in {"plain": net, "roomy": roomy, "cheap": small(recompute="cheap")}.items():
        loss = sum(y.mean() for y in each(x))
        with torch.profiler.profile() as profiler:
            loss.backward()
        again[name] = sum(event.name == "aten::native_batch_norm" for event in profiler.events())
    assert again["plain"] == again["roomy"] == 0 < again["cheap"]


@pytest.mark.slow
def test_smaller_budgets_run_more_again() -> None:
    x = pictures()
    counts = [convolutions_in_backward(small(recompute={"budget_mb": mb}), x) for mb in (1.6, 1.1, 0.8, 0.55)]
    assert counts == sorted(set(counts))


def test_a_budget_is_planned_for_each_shape_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from backbone_kit.recompute import policy

    planned = []
    plan = policy._plan
    monkeypatch.setattr(policy, "_plan", lambda *given: planned.append(given[2].shape) or plan(*given))
    net = small(18, recompute={"budget_mb": 3})
    for side in (64, 96, 64, 96):
        net(pictures(1, 3, side, side))
    net.eval()(pictures(1, 3, 64, 64))
    with torch.no_grad():
        net(pictures(1, 3, 128, 128))
    assert [shape[2] for shape in planned] == [64, 96, 64]


def test_planning_leaves_no_trace() -> None:
    net = small(drop_path_rate=0.5, recompute={"budget_mb": 3})
    state = copy.deepcopy(net.state_dict())
    torch.manual_seed(0)
    random = torch.random.get_rng_state()
    net(pictures())
    moved = copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    torch.random.set_rng_state(random)
    net(pictures())  # as planned before
    for key, value in net.state_dict().items():
        assert torch.equal(value, moved[key]), key


def test_a_budget_that_cannot_be_met_says_the_least_that_can() -> None:
    x = pictures()
    with pytest.raises(ConfigError, match=r"recompute.budget_mb: must be 0\.\d or more for a picture of") as caught:
        small(recompute={"budget_mb": 0.01})(x)
    assert "got 0.01: that is kept where all runs again that can" in str(caught.value)
    assert "raise it, or give less at a time" in str(caught.value)
    least = float(str(caught.value).split("must be ")[1].split()[0])
    held = held_bytes(small(recompute={"budget_mb": least}), x) / MIB
    assert 0.6 * least < held <= least


@pytest.mark.parametrize(
    ("recompute", "message"),
    [
        ("cheep", "recompute: must be 'cheap', got 'cheep'; did you mean 'cheap'"),
        (True, "recompute: must be 'cheap' or a dict or None, got True"),
        ({"budget": 3}, "recompute.budget: unknown key 'budget'; did you mean 'budget_mb'"),
        ({"budget_mb": "3"}, "recompute.budget_mb: must be a number, got '3'"),
        ({"budget_mb": 0}, "recompute.budget_mb: ResNet: must be a finite number of MiB above 0, got 0"),
        ({"budget_mb": float("nan")}, "recompute.budget_mb: ResNet: must be a finite number of MiB above 0, got nan"),
    ],
)
def test_what_is_not_allowed_is_said(recompute: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone({"type": "ResNet", "depth": 18, "recompute": recompute})


def test_with_cp_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="recompute: ResNet: cannot go with with_cp=True"):
        build_backbone("resnet18", recompute="cheap", with_cp=True)


def test_the_second_run_of_detectors_is_recomputed_too() -> None:
    def run(recompute: Any) -> tuple[dict[str, Tensor], int]:
        torch.manual_seed(0)
        net = DetectoRS_ResNet(
            50, layers=(1,) * 4, base_channels=8, rfp_inplanes=4, norm_eval=False, recompute=recompute
        )
        net = net.double().train()
        feedback = [torch.ones(2, 4, 16 // 2**i, 16 // 2**i).double() for i in range(4)]
        held = held_bytes(lambda x: net.rfp_forward(x, feedback), pictures())
        sum(y.square().mean() for y in net.rfp_forward(pictures(), feedback)).backward()
        return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}, held

    plain, held = run(None)
    for recompute in ("cheap", {"budget_mb": 0.5 * held / MIB}):
        ours, ours_held = run(recompute)
        assert_same(ours, plain)
        assert ours_held < 0.8 * held


def test_all_levels_by_name_are_recomputed_too() -> None:
    net, ours = small(), small(recompute="cheap")
    held = [held_bytes(lambda x, n=n: [*n.forward_intermediates(x).values()], pictures()) for n in (ours, net)]
    assert held[0] < 0.8 * held[1]


def test_copies_and_pickles_go_on() -> None:
    net = small(recompute={"budget_mb": 1.2})
    expected = step(copy.deepcopy(net), pictures())
    assert_same(step(pickle.loads(pickle.dumps(net)), pictures()), expected)
    assert_same(step(net, pictures()), expected)
    assert net.recompute == {"budget_mb": 1.2}


def test_prepared_for_inference_it_is_the_same_net() -> None:
    net = small(18, recompute="cheap").float().eval()
    x = pictures(1, 3, 64, 64).float()
    with torch.no_grad():
        for ours, plain in zip(prepare_for_inference(net, x, compiled=False)(x), net(x)):
            torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 0.001}])
def test_tracing_exporting_and_no_gradients_take_the_net_as_it_is(recompute: Any) -> None:
    net = small(18, recompute=recompute).eval()
    x = pictures()
    with torch.no_grad():
        expected = net(x)
    for ours in (
        torch.fx.symbolic_trace(net)(x),
        torch.jit.trace(net, x)(x),
        torch.export.export(net, (x,)).module()(x),
    ):
        for out, reference in zip(ours, expected):
            torch.testing.assert_close(out, reference)


@pytest.mark.slow
def test_compiled_the_compiler_makes_again_what_is_cheap() -> None:
    torch.compiler.reset()
    x = pictures()
    net, ours = small(18, out_indices=(0,)), small(18, out_indices=(0,), recompute="cheap")
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager_decomp_partition")
    compiled_step = {key.removeprefix("_orig_mod."): value for key, value in step(compiled, x).items()}
    eager = step(net, x)
    for key, value in eager.items():
        torch.testing.assert_close(compiled_step[key], value, rtol=1e-9, atol=1e-9, msg=f"{key}: {{}}".format)
    assert kept_bytes(compiled, x, ours) < 0.8 * kept_bytes(net, x)


def test_compiled_a_budget_is_refused_with_what_does_it_there() -> None:
    torch.compiler.reset()
    net = small(18, recompute={"budget_mb": 3})
    with pytest.raises(Exception, match="activation_memory_budget"):
        torch.compile(net, fullgraph=True, backend="eager")(pictures())


def test_it_is_said_when_the_net_is_built() -> None:
    with pytest.raises(AttributeError, match="recompute"):
        small().recompute = "cheap"  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own forward mode
@pytest.mark.parametrize("recompute", ["cheap", {"budget_mb": 0.001}])
def test_inside_transforms_the_net_is_taken_as_it_is(recompute: Any) -> None:
    plain, ours = (small(18, norm_eval=True, recompute=each) for each in (None, recompute))
    x = pictures(2, 3, 32, 32)
    for transform in (
        lambda net: torch.func.grad(lambda x: net(x)[0].square().mean())(x),
        lambda net: torch.func.vmap(lambda x: net(x[None])[0])(x),
        lambda net: torch.func.jvp(lambda x: net(x)[0], (x,), (torch.ones_like(x),))[1],
    ):
        torch.testing.assert_close(transform(ours), transform(plain), rtol=1e-9, atol=1e-12)


def test_planning_does_not_call_hooks_and_plans_for_layers_that_have_them() -> None:
    x = pictures()
    net, values = small(norm_eval=True, recompute={"budget_mb": 0.55}), []
    for module in net.modules():
        module.register_forward_hook(lambda module, inputs, y: values.append(type(y[0] if type(y) is tuple else y)))
        module.register_forward_pre_hook(lambda module, inputs: inputs[0].sum().item() and None)
    assert held_bytes(net, x) <= 0.55 * MIB
    assert set(values) <= {Tensor, nn.Parameter}
    later = small(norm_eval=True, recompute={"budget_mb": 0.55})
    later(x)  # planned without hooks, when norms are folded
    for module in later.modules():
        module.register_forward_hook(lambda *_: None)
    assert held_bytes(later, x) <= 0.55 * MIB
    again = len(values)
    net(x)
    assert len(values) == 2 * again
