"""Generalized attention is the sum of its paper's four terms, computed here query by query and key by key."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone_kit import ConfigError
from backbone_kit.layers import GeneralizedAttention, build_plugin_layer

from ..torch_versions import dynamic_export
from .graphs import compiles_trains_and_exports

TYPES = [f"{number:04b}" for number in range(1, 16)]


def block(in_channels: int = 8, **arguments: Any) -> GeneralizedAttention:
    """A block in float64 in which nothing is zero."""
    torch.manual_seed(0)
    built = GeneralizedAttention(in_channels, **{"num_heads": 2, **arguments}).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built


def embedding(distance: float, channels: int) -> Tensor:
    """Sines, then cosines, of a distance: wave lengths from 1 to 1000, geometrically."""
    waves = [1000 ** (4 * i / channels) for i in range(channels // 4)]
    return torch.tensor([f(distance / wave) for f in (math.sin, math.cos) for wave in waves]).double()


def attended(net: GeneralizedAttention, image: Tensor, types: str, q_stride: int, kv_stride: int, reach: int) -> Tensor:
    """What the queries of one image see, before the projection: (channels, queries down, queries across)."""
    q_map, kv_map = image[:, ::q_stride, ::q_stride], image[:, ::kv_stride, ::kv_stride]
    heads, size = net.num_heads, net.value_conv.out_channels // net.num_heads
    result = q_map.new_zeros(heads * size, *q_map.shape[1:])
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for y in range(q_map.shape[1]):
            for x in range(q_map.shape[2]):
                energies, values = [], []
                for v in range(kv_map.shape[1]):
                    for u in range(kv_map.shape[2]):
                        down, across = y * q_stride - v * kv_stride, x * q_stride - u * kv_stride
                        near = all(
                            (i - reach) // kv_stride <= j <= (i + reach + 1) // kv_stride for i, j in ((y, v), (x, u))
                        )
                        if reach >= 0 and not near:
                            continue
                        energy = torch.zeros(()).double()
                        if "1" in types[0] + types[1]:
                            query = net.query_conv.weight[part].flatten(1) @ q_map[:, y, x]
                        if "1" in types[0] + types[2]:
                            key = net.key_conv.weight[part].flatten(1) @ kv_map[:, v, u]
                        if "1" in types[1] + types[3]:
                            along_x = net.appr_geom_fc_x.weight[part] @ embedding(across, net.position_dim)
                            along_y = net.appr_geom_fc_y.weight[part] @ embedding(down, net.position_dim)
                            place = (along_x + along_y) / math.sqrt(2)
                        if types[0] == "1":
                            energy = energy + query @ key
                        if types[1] == "1":
                            energy = energy + query @ place
                        if types[2] == "1":
                            energy = energy + net.appr_bias[part] @ key
                        if types[3] == "1":
                            energy = energy + net.geom_bias[part] @ place
                        energies.append(energy)
                        values.append(net.value_conv.weight[part].flatten(1) @ kv_map[:, v, u])
                result[part, y, x] = torch.softmax(torch.stack(energies), 0) @ torch.stack(values)
    return result


def expected(net: GeneralizedAttention, x: Tensor, types: str, reach: int = -1) -> Tensor:
    seen = torch.stack([attended(net, image, types, net.q_stride, net.kv_stride, reach) for image in x])
    out = F.conv2d(seen, net.proj_conv.weight, net.proj_conv.bias)
    return x + net.gamma * F.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("types", TYPES)
@torch.no_grad()
def test_it_is_the_papers_sum_over_keys(types: str) -> None:
    net, x = block(attention_type=types), torch.randn(2, 8, 3, 4).double() / 4
    torch.testing.assert_close(net(x), expected(net, x, types))
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected(net, x, types))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kv_stride=1),
        dict(q_stride=2),
        dict(kv_stride=3, q_stride=3),
        dict(spatial_range=0),
        dict(spatial_range=1, kv_stride=1),
        dict(spatial_range=1, attention_type="0010"),
        dict(in_channels=12, num_heads=5),
        dict(in_channels=6, num_heads=3, position_embedding_dim=4),
        dict(in_channels=7, num_heads=2),
        dict(in_channels=3, num_heads=1),
    ],
)
@torch.no_grad()
def test_options_mean_what_they_say(arguments: dict[str, Any]) -> None:
    net = block(**arguments)
    x = torch.randn(1, net.value_conv.in_channels, 4, 5).double() / 4
    reach = arguments.get("spatial_range", -1)
    types = arguments.get("attention_type", "1111")
    torch.testing.assert_close(net(x), expected(net, x, types, reach))


@torch.no_grad()
def test_position_magnitude_stretches_distances() -> None:
    near, far = (
        block(position_magnitude=3, attention_type="0001"),
        block(attention_type="0001", kv_stride=6, q_stride=3),
    )
    x = torch.randn(1, 8, 3, 3).double()
    stretched = torch.zeros(1, 8, 9, 9).double()
    stretched[..., ::3, ::3] = x
    seen = attended(far, stretched[0], "0001", 3, 6, -1).unsqueeze(0)
    torch.testing.assert_close(near(x), x + near.gamma * near.proj_conv(seen))


def test_it_starts_as_the_identity_and_again_after_init_weights() -> None:
    x = torch.randn(2, 8, 4, 5)
    net = GeneralizedAttention(8, num_heads=2)
    assert torch.equal(net(x), x)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    net.init_weights()
    assert torch.equal(net(x), x)
    assert 0 < net.appr_bias.abs().max() <= 1 / math.sqrt(8)


def test_it_has_mmdets_name_and_keys() -> None:
    name, net = build_plugin_layer(dict(type="GeneralizedAttention", num_heads=8), in_channels=256)
    assert name == "gen_attention_block"
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == {
        "appr_bias": [256],
        "geom_bias": [256],
        "gamma": [1],
        "query_conv.weight": [256, 256, 1, 1],
        "key_conv.weight": [256, 256, 1, 1],
        "value_conv.weight": [256, 256, 1, 1],
        "appr_geom_fc_x.weight": [256, 128],
        "appr_geom_fc_y.weight": [256, 128],
        "proj_conv.weight": [256, 256, 1, 1],
        "proj_conv.bias": [256],
    }
    default = GeneralizedAttention(256)  # 9 heads of 28 channels
    assert default.query_conv.weight.shape == (252, 256, 1, 1)
    assert set(GeneralizedAttention(256, attention_type="0010").state_dict()) == {
        *("appr_bias", "gamma", "key_conv.weight", "value_conv.weight", "proj_conv.weight", "proj_conv.bias")
    }


def test_the_table_of_reach_in_a_checkpoint_is_not_needed() -> None:
    net = nn.Sequential(GeneralizedAttention(8, spatial_range=2, num_heads=2))
    state = {**net.state_dict(), "0.local_constraint_map": torch.zeros(84, 84, 42, 42, dtype=torch.uint8)}
    net.load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(num_heads=9), r"num_heads: GeneralizedAttention: must be from 1 to in_channels \(=8\), got 9"),
        (dict(attention_type="111"), "attention_type: .* four of '0' and '1' with a '1' among them, got '111'"),
        (dict(attention_type="0000"), "attention_type: .* got '0000'"),
        (dict(attention_type=1111), "attention_type: must be a string, got 1111"),
        (dict(num_heads=2, kv_stride=0), "kv_stride: GeneralizedAttention: must be 1 or more, got 0"),
        (dict(num_heads=2, spatial_range=-2), "spatial_range: GeneralizedAttention: must be -1 or more, got -2"),
        (dict(num_heads=2, position_embedding_dim=6), "position_embedding_dim: .* must be a multiple of 4, got 6"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plugin_layer(dict(type="GeneralizedAttention", **arguments), in_channels=8)


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize("arguments", [dict(spatial_range=1), dict(attention_type="0010", q_stride=2)])
def test_it_compiles_whole_trains_and_exports_for_any_size(arguments: dict[str, Any]) -> None:
    net = block(**arguments)
    compiles_trains_and_exports(net, torch.randn(2, 8, 5, 6).double(), torch.randn(3, 8, 7, 9).double())


def test_it_trains_under_autocast() -> None:
    net, x = block().float(), torch.randn(2, 8, 4, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    out.square().sum().backward()
    torch.testing.assert_close(out, net(x), rtol=0.05, atol=0.1 * out.std().item())
    assert x.grad.isfinite().all()
