"""transformers' models on our backbones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from backbone_kit import ConfigError
from backbone_kit.adapters import as_transformers
from backbone_kit.backbones import ResNet
from backbone_kit.finetune import freeze_unused

from .training import loaded, one_step

pytestmark = pytest.mark.slow  # importing transformers alone takes seconds

SMALL = dict(encoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5)
SMALL |= dict(encoder_attention_heads=2, decoder_attention_heads=2)
FINE = (1, 2, 3)


def consumer(kind: str, config: Any) -> torch.nn.Module:
    import transformers

    sizes = {
        "UperNetForSemanticSegmentation": dict(hidden_size=16, auxiliary_in_channels=256, auxiliary_channels=16),
        "DetrForObjectDetection": dict(SMALL, d_model=16, decoder_layers=1),
        "DeformableDetrForObjectDetection": dict(SMALL, d_model=32, decoder_layers=2),
        "Mask2FormerModel": dict(
            feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1,
            decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=5,
        ),
        "RTDetrForObjectDetection": dict(
            SMALL, encoder_in_channels=[128, 256, 512], encoder_hidden_dim=16, d_model=16, decoder_layers=1,
            decoder_in_channels=[16, 16, 16], num_denoising=0,
        ),
    }[kind]  # fmt: skip
    model = getattr(transformers, kind)
    return model(model.config_class(backbone_config=config, **sizes))


@pytest.mark.parametrize(
    ("kind", "out_indices", "maps"),
    [
        ("UperNetForSemanticSegmentation", None, ("logits",)),
        ("DetrForObjectDetection", (3,), ("logits", "pred_boxes")),
        ("DeformableDetrForObjectDetection", FINE, ("logits", "pred_boxes")),
        ("Mask2FormerModel", None, ("transformer_decoder_last_hidden_state", "pixel_decoder_last_hidden_state")),
        ("RTDetrForObjectDetection", FINE, ("logits", "pred_boxes")),
    ],
)
def test_a_model_loads_and_trains_it(kind: str, out_indices: Any, maps: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = loaded().state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    model = consumer(kind, as_transformers("resnet18", out_indices=out_indices, frozen_stages=1, pretrained=path))
    (net,) = (module.net for module in model.modules() if type(module).__name__ == "BackboneKitBackbone")
    held = net.state_dict()
    assert {name for name in weights if not name.endswith("num_batches_tracked")} <= set(held)
    assert all(torch.equal(value, weights[name]) for name, value in held.items())

    def loss() -> torch.Tensor:
        out = model(pixel_values=torch.rand(2, 3, 64, 64))
        return sum(out[name].square().mean() for name in maps)

    one_step(model, net, loss)


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    from transformers import UperNetForSemanticSegmentation

    torch.save(loaded().state_dict(), tmp_path / "weights.pth")
    config = as_transformers("resnet18", frozen_stages=1, pretrained=str(tmp_path / "weights.pth"))
    model = consumer("UperNetForSemanticSegmentation", config).eval()
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "weights.pth").unlink()  # the saved model has its own
    again = UperNetForSemanticSegmentation.from_pretrained(tmp_path / "saved")
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(pixel_values=picture).logits, model(pixel_values=picture).logits)
    assert not again.backbone.net.layer1[0].conv1.weight.requires_grad
    assert again.backbone.net.layer2[0].conv1.weight.requires_grad


def test_frozen_norms_are_frozen_when_it_comes_back(tmp_path: Path) -> None:
    from transformers import AutoBackbone

    config = as_transformers("resnet18", norm_cfg=dict(type="BN", requires_grad=False), norm_eval=True)
    model = AutoBackbone.from_config(config)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    for name, parameter in again.net.named_parameters():
        assert parameter.requires_grad == ("bn" not in name and "downsample.1" not in name)
    again.net.bn1.weight.requires_grad_()
    assert again.train().net.bn1.weight.requires_grad  # from now on it is the user's


def test_what_a_saved_model_lacks_is_initialised(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoBackbone

    config = as_transformers("resnet18")
    model = AutoBackbone.from_config(config)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    kept = {name: value for name, value in tensors.items() if not name.startswith("net.layer4.0.bn1.")}
    save_file(kept, file, metadata={"format": "pt"})
    net = type(model).from_pretrained(tmp_path).net
    assert net.layer4[0].bn1.running_var.eq(1).all()
    assert net.layer4[0].bn1.weight.eq(1).all()
    assert torch.equal(net.layer4[0].conv1.weight, tensors["net.layer4.0.conv1.weight"])


def test_levels_that_are_asked_for_by_name_are_in_use() -> None:
    from transformers import AutoBackbone

    config = as_transformers("resnet18", out_indices=(0,))
    config.set_output_features_output_indices(["layer3"], None)
    names = freeze_unused(AutoBackbone.from_config(config))
    assert {name.split(".")[1] for name in names} == {"layer4"}


def test_channels_and_maps_are_told(tmp_path: Path) -> None:
    from transformers import AutoBackbone

    (tmp_path / "net.yaml").write_text("{type: ResNet, depth: 18, out_indices: [3, 1]}")
    config = as_transformers(tmp_path / "net.yaml")
    (tmp_path / "net.yaml").unlink()
    model = AutoBackbone.from_config(config).eval()
    assert (model.out_features, model.channels) == (["layer2", "layer4"], [128, 512])  # from fine to coarse
    out = model(torch.rand(1, 3, 64, 64), output_hidden_states=True)
    assert [m.shape[1] for m in out.feature_maps] == [128, 512]
    assert [m.shape[1] for m in out.hidden_states] == [64, 64, 128, 256, 512]


def in_json(got: str) -> str:
    return f"is saved with the model, and must be what JSON has, got {got}"


@pytest.mark.parametrize(
    ("cfg", "options", "message"),
    [
        (dict(type="ResNet", depth=18, depht=18), {}, "depht: ResNet has no argument 'depht'; did you mean 'depth'"),
        (
            dict(type=ResNet, depth=18),
            {},
            f"type: {in_json(repr(ResNet))}; write the name that it is registered by, 'ResNet'",
        ),
        (dict(model=dict(backbone=dict(type=ResNet, depth=18))), {}, "model.backbone.type: is saved with the model"),
        ("resnet18", dict(out_indices=[torch.tensor(1)]), f"out_indices[0]: {in_json('tensor(1)')}"),
        ("resnet18", dict(pretrained=Path("a.pth")), f"pretrained: {in_json(repr(Path('a.pth')))}"),
        ("resnet18", dict(init=True), "init: is no argument of the backbone: weights load when the model is built"),
        (
            torch.nn.ReLU(),
            {},
            "cfg: must be a dict, a Config, a config file or a model name, as transformers builds it",
        ),
    ],
)
def test_mistakes_are_told_at_once(cfg: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        as_transformers(cfg, **options)
