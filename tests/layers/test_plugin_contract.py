"""What every plugin promises, present and future: any block, any width, any position; one graph, true gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from backbone_kit import BACKBONES, ConfigError, build_backbone
from backbone_kit.backbones.blocks import BasicBlock, Bottleneck
from backbone_kit.backbones.residual import Position
from backbone_kit.layers import PLUGIN_LAYERS, build_plugin_layer
from backbone_kit.names import named_config, named_configs
from backbone_kit.signature import parameters

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

WIDTH = 12
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ContextBlock": dict(ratio=0.5, fusion_types=["channel_add", "channel_mul"]),
    "GeneralizedAttention": dict(num_heads=2),
    "NonLocal2d": dict(sub_sample=True),
    "ConvModule": dict(kernel_size=3, padding=1),
    "DepthwiseSeparableConvModule": dict(kernel_size=3, padding=1),
    "DropBlock": dict(drop_prob=0.2, block_size=3),
}
every_plugin = pytest.mark.parametrize("name", sorted(PLUGIN_LAYERS))


def config(name: str, width: int = WIDTH) -> dict[str, Any]:
    wide = {"out_channels": width} if name in ("ConvModule", "DepthwiseSeparableConvModule") else {}
    return {"type": name, **ARGUMENTS.get(name, {}), **wide}


def plugin(name: str) -> nn.Module:
    """In float64 and eval, with nothing zero."""
    _, built = build_plugin_layer(config(name), in_channels=WIDTH)
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built.double().eval()


@every_plugin
def test_it_keeps_the_shape_in_either_layout_and_copies(name: str) -> None:
    net, x = plugin(name), torch.randn(2, WIDTH, 5, 4).double()
    out = net(x)
    assert out.shape == x.shape
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), out)
    torch.testing.assert_close(copy.deepcopy(net)(x), out)


@every_plugin
def test_gradients_are_true(name: str) -> None:
    net = plugin(name)
    names, parameters = list(dict(net.named_parameters())), list(net.parameters())

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, values)), (x,))

    x = torch.randn(2, WIDTH, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=True)


@pytest.mark.slow
@dynamic_export
@every_plugin
def test_it_compiles_whole_trains_and_exports_for_any_size(name: str) -> None:
    net = plugin(name)
    if not list(net.parameters()):
        net = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1).double(), net)
    compiles_trains_and_exports(net, torch.randn(2, WIDTH, 5, 4).double(), torch.randn(3, WIDTH, 7, 9).double())


@every_plugin
def test_it_is_built_on_meta(name: str) -> None:
    with torch.device("meta"):
        _, net = build_plugin_layer(config(name), in_channels=WIDTH)
    assert all(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))


@every_plugin
def test_an_unknown_option_is_refused_with_the_nearest(name: str) -> None:
    known = [n for n in inspect.signature(PLUGIN_LAYERS.get(name)).parameters if n != "in_channels"]  # type: ignore[arg-type]
    option = max(known, key=len)
    with pytest.raises(ConfigError, match=rf"{option}s: \w+ has no argument '{option}s'; did you mean '{option}'\?"):
        build_plugin_layer({**config(name), f"{option}s": 1}, in_channels=WIDTH)


def basic() -> tuple[Callable[..., nn.Module], dict[str, int]]:
    return lambda **kwargs: BasicBlock(20, 20, **kwargs), dict.fromkeys(BasicBlock.positions, 20)


def grouped() -> tuple[Callable[..., nn.Module], dict[str, int]]:
    widths = {**dict.fromkeys(Bottleneck.positions, 24), "after_conv3": 64}
    return lambda **kwargs: Bottleneck(64, 16, width=24, groups=4, **kwargs), widths


@pytest.mark.parametrize("make", [basic, grouped])
@every_plugin
def test_it_runs_at_every_position_of_every_block_twice(name: str, make: Any) -> None:
    block, widths = make()
    places = [(place, width, f"_{i}") for place, width in widths.items() for i in range(2)]
    entries = [{"cfg": {**config(name, w), "postfix": f"_{p}{i}"}, "position": p} for p, w, i in places]
    net = block(plugins=entries)
    assert len(net.plugin_names) == len(places)
    seen: list[int] = []
    for child in net.plugin_names:
        net.get_submodule(child).register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    x = torch.randn(2, max(widths.values()), 8, 8)
    out = net(x)
    assert out.shape == x.shape
    assert seen == [width for _, width, _ in places]
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("position", get_args(Position))
@pytest.mark.parametrize("kind", [kind for kind in sorted(BACKBONES) if "plugins" in parameters(BACKBONES.get(kind))])
def test_every_family_gives_its_plugins_their_width(kind: str, position: str) -> None:
    cfg = next(cfg for cfg in map(named_config, named_configs()) if cfg["type"] == kind)
    shallow = {"layers": (1,) * cfg.get("num_stages", 4)} if "layers" in parameters(BACKBONES.get(kind)) else {}
    entry = {"cfg": {"type": "SELayer", "postfix": "_new"}, "position": position}
    try:
        with torch.device("meta"):
            net = build_backbone(cfg, plugins=[entry], **shallow).eval()
    except ConfigError as error:  # a position that the blocks of this family have not
        if position in ("after_conv1", "after_conv2") or "plugins[0].position: " not in str(error):
            raise
        return
    ran: list[nn.Module] = []
    plugins = [module for name, module in net.named_modules() if name.endswith("se_layer_new")]
    for plugin in plugins:
        plugin.register_forward_hook(lambda module, args, out: ran.append(module))
    net(torch.empty(1, 3, 64, 64, device="meta"))
    assert plugins
    assert len(ran) == len(plugins)


def test_each_has_a_config_that_uses_it() -> None:
    plugins = [entry["cfg"] for name in named_configs() for entry in named_config(name).get("plugins", ())]
    used = {type(build_plugin_layer(cfg, in_channels=cfg.get("out_channels", 64))[1]) for cfg in plugins}
    assert used >= {type(plugin(name)) for name in PLUGIN_LAYERS}
