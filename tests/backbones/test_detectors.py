"""DetectoRS computes what MMDetection's computes, and its second run what section 3.2 of the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone_kit import BACKBONES, ConfigError, build_from_cfg
from backbone_kit.backbones import DetectoRS_ResNet, DetectoRS_ResNeXt, ResNet
from backbone_kit.checkpoint import load_checkpoint
from backbone_kit.layers import SAConv2d

from ..golden import cases, difference, fill, picture
from .test_peers import randomized

CASES = cases("mmdet_detectors")
SAC: dict[str, Any] = dict(sac=dict(type="SAC", use_deform=True), stage_with_sac=(False, True, True, True))


def small(kind: type[DetectoRS_ResNet] = DetectoRS_ResNet, **arguments: Any) -> Any:
    return kind(50, **{"base_channels": 8, "num_stages": 4, "norm_eval": False, **arguments})


def _golden() -> list[Any]:
    marks = [() if index == 1 else pytest.mark.slow for index in range(len(CASES))]
    return [pytest.param(case, id=f"{i}-{case['cfg']['depth']}", marks=marks[i]) for i, case in enumerate(CASES)]


@pytest.mark.parametrize("case", _golden())
def test_equals_mmdetection(case: dict[str, Any]) -> None:
    net = build_from_cfg(case["cfg"], BACKBONES)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == case["keys"]
    assert list(net.state_dict()) == list(case["keys"])
    assert sum(p.numel() for p in net.parameters()) == case["n_params"]
    assert sorted(n for n, p in net.named_parameters() if not p.requires_grad) == case["frozen_params"]
    training = [name for name, m in net.train().named_modules() if isinstance(m, _BatchNorm) and m.training]
    assert sorted(training) == sorted(case["batchnorms_in_train_mode"])
    fill(net)
    with torch.no_grad():
        outputs = net.eval()(picture(case["input"]))
    assert [list(out.shape) for out in outputs] == [golden["shape"] for golden in case["outputs"]]
    # the maps of the last stages amplify float32's rounding beyond any comparison
    pairs = [(ours, golden) for ours, golden in zip(outputs, case["outputs"]) if golden.get("sample")]
    assert len(pairs) >= 2
    assert max(difference(ours, golden) for ours, golden in pairs) < 1e-4


def test_the_picture_counts_among_the_maps() -> None:
    net, x = small(output_img=True, out_indices=(3, 1), in_channels=4).eval(), torch.randn(1, 4, 64, 64)
    outputs = net(x)
    assert outputs[0] is x
    assert net.out_channels == tuple(out.shape[1] for out in outputs) == (4, 256, 64)
    assert net.out_strides == tuple(64 // out.shape[2] for out in outputs) == (1, 32, 8)
    places = {part["name"]: part["out_index"] for part in net.describe() if part["out_index"] is not None}
    assert places == {"layer2": 2, "layer4": 1}


def feedback(x: torch.Tensor, channels: int) -> list[torch.Tensor]:
    return [torch.randn(len(x), channels, x.shape[2] // stride, x.shape[3] // stride) for stride in (4, 8, 16, 32)]


def test_feedback_is_without_effect_until_it_is_trained() -> None:
    net, x = small(rfp_inplanes=6, output_img=True).eval(), torch.randn(2, 3, 64, 64)
    for ours, expected in zip(net.rfp_forward(x, feedback(x, 6)), net(x)[1:], strict=True):
        assert torch.equal(ours, expected)
    net.init_weights()
    assert not net.layer2[0].rfp_conv.weight.any()
    assert [name for name, _ in net.named_modules() if name.endswith("rfp_conv")] == [
        f"layer{stage}.0.rfp_conv" for stage in (2, 3, 4)
    ]


@pytest.mark.parametrize("with_cp", [False, True])
def test_feedback_is_added_before_the_last_activation_of_first_blocks(with_cp: bool) -> None:
    net = randomized(small(rfp_inplanes=6, with_cp=with_cp, out_indices=(1,))).eval()
    x = torch.randn(2, 3, 64, 64, requires_grad=True)
    maps = feedback(x, 6)
    (out,) = net.rfp_forward(x, maps)
    first, *rest = net.layer2
    before = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))
    summed = first.residual(before) + first.downsample(before)
    added = nn.functional.conv2d(maps[1], first.rfp_conv.weight, first.rfp_conv.bias)
    torch.testing.assert_close(out, nn.Sequential(*rest)((summed + added).relu()))
    out.sum().backward()
    assert first.rfp_conv.weight.grad.any()


def test_rfp_forward_without_rfp_inplanes_is_refused() -> None:
    with pytest.raises(RuntimeError, match="rfp_forward needs a net built with rfp_inplanes"):
        small().rfp_forward(torch.zeros(1, 3, 64, 64), [])


def test_feedback_and_switches_are_new_to_a_pretrained_net() -> None:
    plain = ResNet(50, base_channels=8).state_dict()
    report = load_checkpoint(small(rfp_inplanes=6, **SAC), plain)
    assert (report.missing, len(report.matched)) == ((), len(plain))
    assert {"layer2.0.rfp_conv.weight", "layer4.2.conv2.switch.bias"} <= set(report.new)


def test_switchable_convolutions_rest_after_init_weights() -> None:
    net = small(**SAC, conv_cfg=dict(type="ConvAWS"))
    net.init_weights()
    switchable = [module for module in net.modules() if isinstance(module, SAConv2d)]
    assert len(switchable) == 4 + 6 + 3
    for module in switchable:
        assert not any(parameter.any() for parameter in (module.weight_diff, module.offset_l.weight))
        assert module.switch.bias.item() == 1


def test_a_pool_in_shortcuts_is_there_for_strides_alone() -> None:
    keys = small(avg_down=True).state_dict()
    assert "layer1.0.downsample.0.weight" in keys
    assert "layer2.0.downsample.1.weight" in keys


def test_groups_are_resnexts() -> None:
    net = small(
        DetectoRS_ResNeXt,
        base_channels=64,
        groups=32,
        base_width=4,
        num_stages=2,
        **{**SAC, "stage_with_sac": (False, True)},
    )
    assert net.layer1[0].conv2.weight.shape == (128, 4, 3, 3)
    assert (type(net.layer2[0].conv2), net.layer2[0].conv2.weight.shape) == (SAConv2d, (256, 8, 3, 3))
    plain = small(DetectoRS_ResNeXt, num_stages=1)
    assert plain.layer1[0].conv2.weight.shape == (8, 8, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(sac=dict(type="SAC")), r"sac: DetectoRS_ResNet: needs stage_with_sac .* \(False, True, True, True\)"),
        (dict(stage_with_sac=(True,) * 4), "stage_with_sac: DetectoRS_ResNet: needs sac to say which"),
        (dict(sac=dict(type="SAC"), stage_with_sac=(True,)), r"stage_with_sac: .*4 .*got \(True,\)"),
        (
            dict(SAC, dcn=dict(type="DCN"), stage_with_dcn=(False, False, True, True)),
            r"stage_with_sac\[2\]: DetectoRS_ResNet: has dcn as well",
        ),
        (dict(sac=dict(type="SAC", use_deforms=True)), r"sac.use_deforms: .*did you mean 'use_deform'"),
        (dict(rfp_inplanes=0), "rfp_inplanes: DetectoRS_ResNet: must be 1 or more, got 0"),
        (dict(block="basic"), "block: must be None, got 'basic'"),
        (dict(depth=34), "depth: must be .*50.*101.*152, got 34"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_from_cfg({"type": "DetectoRS_ResNet", "depth": 50, **arguments}, BACKBONES)
