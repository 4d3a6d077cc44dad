"""SE-ResNet and SE-ResNeXt are timm's, run live; that they are MMPretrain's is in test_golden.py."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from backbone_kit import ConfigError, build_backbone
from backbone_kit.backbones.se_resnet import SEResNet, SEResNeXt

from .test_peers import randomized, relative_difference, served


@pytest.mark.parametrize(
    ("name", "make"), [("seresnet18", lambda: SEResNet(18)), ("seresnext50_32x4d", lambda: SEResNeXt(50))]
)
@torch.no_grad()
def test_equal_to_timm(name: str, make: Any) -> None:
    peer = randomized(timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)))
    x = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    net = served(make(), {_renamed(key): value for key, value in peer.state_dict().items()})
    assert relative_difference(net(x), peer(x)) < 1e-5


def _renamed(key: str) -> str:
    return key.replace(".se.fc1.", ".se_layer.conv1.conv.").replace(".se.fc2.", ".se_layer.conv2.conv.")


def test_the_ratio_is_that_of_the_layers_and_other_plugins_run_before() -> None:
    entry = {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "position": "after_conv3"}
    net = SEResNet(50, se_ratio=4, plugins=[entry])
    assert net.layer4[0].se_layer.conv1.conv.weight.shape == (512, 2048, 1, 1)
    assert net.layer1[0].plugin_names == ("context_block", "se_layer")


def test_drop_path_acts() -> None:
    """In MMPretrain's it does not."""
    net = SEResNet(18, drop_path_rate=0.9, zero_init_residual=False, norm_eval=False).train()
    dropped: list[Tensor] = []
    path = net.layer4[1].drop_path
    path.register_forward_hook(lambda module, args, out: dropped.append((out == 0).all(3).all(2).all(1)))
    for _ in range(4):
        net(torch.randn(4, 3, 64, 64))
    assert torch.cat(dropped).sum() > 0


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="SEResNet", depth=50, se_ratio=0), "se_ratio: SEResNet: must be positive, got 0"),
        (dict(type="SEResNet", depth=50, attn_layer="eca"), "attn_layer: SEResNet has no argument 'attn_layer'"),
        (dict(type="SEResNeXt", depth=18), "depth: SEResNeXt: must be one of .*50.*, got 18"),
        (
            dict(type="SEResNeXt", depth=50, groups=1, base_width=8),
            "base_width: SEResNeXt: 8 has no effect",
        ),
        (
            dict(type="SEResNeXt", depth=50, se_ration=8),
            "SEResNeXt has no argument 'se_ration'; did you mean",
        ),
    ],
)
def test_mistakes_are_told(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(cfg)
