"""Weights: how they start, when named ones load, and what is said when they did not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from backbone_kit import CheckpointError, ConfigError, build_backbone
from backbone_kit.backbones import ResNet
from backbone_kit.backbones.residual import ResidualBlock

from .test_contract import per_class, tiny

R18 = {"type": "ResNet", "depth": 18, "base_channels": 8}


def gammas(net: nn.Module) -> list[float]:
    blocks = [block for block in net.modules() if isinstance(block, ResidualBlock)]
    return [float(block.norm(max(block.norm_names)).weight.detach().abs().max()) for block in blocks]


def saved(folder: Path, net: nn.Module, prefix: str = "") -> Path:
    path = folder / "weights.pth"
    torch.save({"state_dict": {f"{prefix}{key}": value for key, value in net.state_dict().items()}, "epoch": 3}, path)
    return path


def test_convolutions_start_kaiming_normal_over_fan_out() -> None:
    torch.manual_seed(0)
    weight = ResNet(18).layer4[0].conv2.weight.detach()
    assert weight.std() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert abs(weight.mean()) < 1e-4
    kurtosis = ((weight / weight.std()) ** 4).mean()
    assert kurtosis == pytest.approx(3, abs=0.05)  # a normal distribution's


@pytest.mark.parametrize("depth", [18, 50])
def test_residual_branches_start_at_zero_where_they_can_leave_it(depth: int) -> None:
    assert set(gammas(ResNet(depth, base_channels=8))) == {0.0}
    assert set(gammas(ResNet(depth, base_channels=8, zero_init_residual=False))) == {1.0}
    assert set(gammas(ResNet(depth, base_channels=8, norm_cfg={"type": "BN", "requires_grad": False}))) == {1.0}
    assert gammas(ResNet(18, base_channels=8, frozen_stages=1)) == [1.0] * 2 + [0.0] * 6


def test_zero_init_of_a_frozen_gamma_is_refused_aloud() -> None:
    with pytest.warns(UserWarning, match="zero_init_residual=True leaves out blocks whose last gamma cannot train"):
        net = ResNet(18, base_channels=8, norm_cfg={"type": "FrozenBN"}, zero_init_residual=True)
    assert set(gammas(net)) == {1.0}


def test_zero_init_says_nothing_of_stages_that_are_frozen() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ResNet(18, base_channels=8, zero_init_residual=True, frozen_stages=1)


def test_deformable_offsets_start_at_zero() -> None:
    net = ResNet(50, base_channels=8, dcn={"type": "DCN"}, stage_with_dcn=(False, True, True, True))
    net.init_weights()
    offsets = [p for name, p in net.named_parameters() if "conv_offset" in name]
    assert len(offsets) == 26
    assert not any(p.any() for p in offsets)


def test_init_weights_fills_as_init_cfg_says() -> None:
    init_cfg = [
        {"type": "Constant", "val": 0.5, "layer": "Conv2d"},
        {"type": "Constant", "val": 2.0, "layer": ["_BatchNorm", "GroupNorm"]},
        {"type": "Constant", "val": 0.25, "override": {"name": "conv1"}},
    ]
    net = build_backbone({**R18, "init_cfg": init_cfg}, init=True)
    assert (net.conv1.weight == 0.25).all()
    assert (net.layer1[0].conv1.weight == 0.5).all()
    assert (net.layer4[1].bn2.weight == 2).all()


def test_a_layer_that_is_not_there_is_an_error() -> None:
    net = build_backbone({**R18, "init_cfg": {"type": "Constant", "val": 1.0, "layer": "Conv2D"}})
    with pytest.raises(ConfigError, match=r"init_cfg.*'Conv2D'.*did you mean 'Conv2d'\?"):
        net.init_weights()


def test_init_weights_starts_over() -> None:
    net = ResNet(18, base_channels=8)
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.fill_(7)
    net.init_weights()
    assert set(gammas(net)) == {0.0}
    assert not net.bn1.running_mean.any()
    assert net.conv1.weight.detach().std() == pytest.approx((2 / (8 * 49)) ** 0.5, rel=0.1)


@per_class
def test_a_net_from_the_meta_device_is_filled_whole(kind: str) -> None:
    with torch.device("meta"):
        net = tiny(kind)
    net = net.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    net.init_weights()
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())
    assert not any((tensor == -1).all() for tensor in net.state_dict().values())


def test_timms_layers_start_as_timm_has_them() -> None:
    made, again = (build_backbone(dict(type="TimmBackbone", model_name="convnext_atto")) for _ in range(2))
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.fill_(7)
    again.init_weights()
    deviations = [[p.detach().std().item() for p in net.parameters() if p.ndim > 1] for net in (made, again)]
    assert deviations[1] == pytest.approx(deviations[0], rel=0.1)


def test_a_net_from_the_meta_device_is_filled_whole_under_an_init_cfg_too() -> None:
    with torch.device("meta"):
        net = ResNet(18, base_channels=8, init_cfg={"type": "Constant", "val": 0.5, "layer": "Conv2d"})
    net = net.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)
    net.init_weights()
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())
    assert (net.layer3[0].conv1.weight == 0.5).all()


@pytest.mark.parametrize("prefix", ["", "backbone.", "module."])
def test_named_weights_load_in_init_weights_and_nowhere_else(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    trained = ResNet(18, base_channels=8, zero_init_residual=False)
    path = str(saved(tmp_path, trained, prefix))
    for cfg in ({"pretrained": path}, {"init_cfg": {"type": "Pretrained", "checkpoint": path}}):
        net = build_backbone({**R18, **cfg})
        assert net.load_report is None
        assert not torch.equal(net.conv1.weight, trained.conv1.weight)
        net.init_weights()
        assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), trained.state_dict().values()))
        assert net.load_report is not None
        assert len(net.load_report.matched) == len(net.state_dict())


def test_offsets_saved_beside_their_convolution_are_found(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "base_channels": 8,
        "dcn": {"type": "DCNv2"},
        "stage_with_dcn": (False, False, False, True),
    }
    trained = ResNet(50, **options)
    nn.init.normal_(trained.layer4[0].conv2.conv_offset.weight)
    weights = {key.replace("conv2.conv_offset", "conv2_offset"): value for key, value in trained.state_dict().items()}
    torch.save(weights, tmp_path / "old.pth")
    net = build_backbone({"type": "ResNet", "depth": 50, **options}, pretrained=str(tmp_path / "old.pth"))
    assert torch.equal(net.layer4[0].conv2.conv_offset.weight, trained.layer4[0].conv2.conv_offset.weight)


def test_weights_given_to_build_backbone_replace_those_of_the_config(tmp_path: Path) -> None:
    trained = ResNet(18, base_channels=8)
    net = build_backbone(
        {**R18, "init_cfg": {"type": "Pretrained", "checkpoint": "nowhere.pth"}},
        pretrained=str(saved(tmp_path, trained)),
    )
    assert torch.equal(net.conv1.weight, trained.conv1.weight)


def test_zero_init_does_not_follow_a_checkpoint(tmp_path: Path) -> None:
    trained = ResNet(18, base_channels=8, zero_init_residual=False)
    cfg = [{"type": "Pretrained", "checkpoint": str(saved(tmp_path, trained))}]
    assert set(gammas(build_backbone({**R18, "init_cfg": cfg}, init=True))) == {1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop("layer1.0.conv1.weight"),
            r"serves 121 of the model's 122 keys.*layer1\.0\.conv1\.weight",
        ),
        (
            lambda weights: weights.update({"conv1.weight": torch.zeros(4, 3, 7, 7)}),
            r"conv1\.weight is \(4, 3, 7, 7\) there",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_leaves_the_net_untouched(tmp_path: Path, change: Any, message: str) -> None:
    weights = ResNet(18, base_channels=8).state_dict()
    change(weights)
    torch.save(weights, tmp_path / "bad.pth")
    net = build_backbone({**R18, "pretrained": str(tmp_path / "bad.pth")})
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=message.replace("121 of the model's 122", r"\d+ of the model's \d+")):
        net.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_training_without_the_named_weights_is_said_once() -> None:
    net = build_backbone({**R18, "norm_eval": False, "pretrained": "weights.pth"})
    x = torch.randn(2, 3, 32, 32)
    with pytest.warns(UserWarning, match=r"trains without 'weights\.pth': init_weights\(\) was never called"):
        net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)


@pytest.mark.parametrize(
    ("options", "cause"), [({}, "norm_eval=True"), ({"norm_eval": False, "frozen_stages": 0}, "frozen_stages=0")]
)
def test_training_on_empty_statistics_is_said_once(options: dict[str, Any], cause: str) -> None:
    net = build_backbone(R18, **options)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        net(x)  # says nothing: nobody trains
    with pytest.warns(UserWarning, match=rf"'bn1' on running statistics that are still 0 and 1 \({cause}\)"):
        net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)


def test_fused_weights_and_weights_from_elsewhere_are_no_reason_for_words() -> None:
    net = build_backbone(R18, norm_cfg={"type": "BN", "requires_grad": False})
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):  # Detectron's: mean 0 and variance 1, all of the norm in scale and shift
            nn.init.constant_(parameter, 0.1)
    loaded = build_backbone({**R18, "pretrained": "weights.pth"}, norm_eval=False)
    for key, value in loaded.state_dict().items():
        if key.endswith("running_mean"):
            value.fill_(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (net, loaded):
            each(torch.randn(2, 3, 32, 32))


def test_statistics_that_moved_are_no_reason_for_words() -> None:
    net = build_backbone(R18, norm_eval=False)
    x = torch.randn(2, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)
        net.norm_eval, net._before_first_step = True, True
        net.train()(x)


@per_class
def test_nothing_is_drawn_where_a_checkpoint_brings_all_values(kind: str, tmp_path: Path) -> None:
    if kind == "TimmBackbone":
        pytest.skip("timm's nets may hold tensors that are in no checkpoint, and are built with memory")
    trained = tiny(kind).eval()
    path = saved(tmp_path, trained)
    state = torch.get_rng_state()
    net = tiny(kind, pretrained=str(path)).eval()
    assert torch.equal(torch.get_rng_state(), state)
    path.write_bytes(bytes(path.stat().st_size))  # the file's memory is not the net's
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(net(x), trained(x), strict=True))
    frozen = [name for name, parameter in trained.named_parameters() if not parameter.requires_grad]
    assert frozen == [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
