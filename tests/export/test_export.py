"""A backbone as a file: what its runtime makes of pictures is what the backbone makes of them."""

from __future__ import annotations

import copy
import errno
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbone_kit import ConfigError, Preprocessing
from backbone_kit.backbones import VGG, Backbone, ResNet, TridentResNet
from backbone_kit.export import FORMATS, check_export, export_backbone
from backbone_kit.export.normalize import Normalize

from ..backbones.test_peers import randomized
from ..torch_versions import dynamic_export

CAFFE = Preprocessing((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "BGR")


def net(**options: Any) -> Backbone:
    torch.manual_seed(0)
    options = {"num_stages": 2, "layers": (1, 1), "base_channels": 4, **options}
    return randomized(ResNet(18, **options)).train()  # type: ignore[return-value]


def exported(path: Path, kind: Any, backbone: Backbone | None = None, **options: Any) -> Any:
    return export_backbone(backbone or net(), path / f"net{FORMATS[kind].suffix}", kind, size=(32, 48), **options)


def in_onnxruntime(path: Path, images: Tensor) -> dict[str, Tensor]:
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, {"images": images.numpy()}))))


def in_openvino(path: Path, images: Tensor) -> dict[str, Tensor]:
    core = pytest.importorskip("openvino").Core()
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled({"images": images.numpy()})
    return {port.get_any_name(): torch.from_numpy(np.array(value)) for port, value in outputs.items()}


def caffe(pixels: Tensor) -> Tensor:
    """RGB pixels as `CAFFE` says, one channel at a time."""
    red, green, blue = pixels.float().unbind(1)
    return torch.stack([(blue - 103.53) / 57.375, (green - 116.28) / 57.12, (red - 123.675) / 58.395], 1)


def test_pixels_are_normalised_in_the_order_of_the_weights() -> None:
    pixels = torch.randint(256, (2, 3, 5, 4), dtype=torch.uint8)
    torch.testing.assert_close(Normalize(CAFFE, torch.float32)(pixels), caffe(pixels))
    unit = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.1, 0.3), "RGB", range=1)
    expected = (pixels / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.1, 0.3]).view(
        3, 1, 1
    )
    torch.testing.assert_close(Normalize(unit, torch.float64)(pixels), expected.double(), rtol=1e-5, atol=1e-5)


@dynamic_export
@torch.no_grad()
def test_a_program_takes_any_batch_and_size(tmp_path: Path) -> None:
    backbone = net(out_indices=(1, 0))
    modes = [module.training for module in backbone.modules()]
    state = copy.deepcopy(backbone.state_dict())
    result = exported(tmp_path, "export", backbone)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert [(port.name, port.shape) for port in result.maps] == [
        ("layer2_stride8", ("N", 8, "H/8", "W/8")),
        ("layer1_stride4", ("N", 4, "H/4", "W/4")),
    ]
    program = torch.export.load(result.path)
    assert not any("norm" in str(node.target) for node in program.graph.nodes)  # folded
    backbone.eval()
    for shape in [(1, 3, 17, 16), (5, 3, 40, 99)]:
        x = torch.randn(shape)
        for ours, expected in zip(program.module()(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(Exception, match=r"H|size|shape"):
        program.module()(torch.randn(1, 3, result.smallest - 1, 64))


def test_what_is_fixed_is_fixed(tmp_path: Path) -> None:
    result = exported(tmp_path, "export", fixed=("batch", "size"))
    assert (result.images.shape, result.smallest) == ((1, 3, 32, 48), None)
    assert [port.shape for port in result.maps] == [(1, 4, 8, 12), (1, 8, 4, 6)]
    rows = check_export(result)
    assert [(row.name, row.images) for row in rows] == [
        ("layer1_stride4", (1, 3, 32, 48)),
        ("layer2_stride8", (1, 3, 32, 48)),
    ]
    assert all(row.passes for row in rows)
    with torch.no_grad():
        result.reference.layer2[0].conv1.weight.mul_(1.01)
    assert [row.passes for row in check_export(result)] == [True, False]
    assert all(row.passes for row in check_export(result, tolerance=0.5))
    with torch.no_grad():
        result.reference.layer1[0].conv1.weight.fill_(float("nan"))
    assert not any(row.passes for row in check_export(result, tolerance=0.5))


@pytest.mark.slow
@dynamic_export
@pytest.mark.parametrize(("kind", "run"), [("onnx", in_onnxruntime), ("openvino", in_openvino)])
@torch.no_grad()
def test_runtimes_take_pixels_by_name_and_give_levels_by_name(kind: str, run: Any, tmp_path: Path) -> None:
    backbone = net()
    result = exported(tmp_path, kind, backbone, preprocessing=CAFFE)
    assert (result.images.dtype, result.images.shape) == (torch.uint8, ("N", 3, "H", "W"))
    assert {file.name for file in result.files} == {file.name for file in tmp_path.iterdir()}
    backbone.eval()
    for shape in [(1, 3, 17, 33), (3, 3, 50, 31)]:
        pixels = torch.randint(256, shape, dtype=torch.uint8)
        maps = run(result.path, pixels)
        for name, expected in zip(["layer1_stride4", "layer2_stride8"], backbone(caffe(pixels)), strict=True):
            torch.testing.assert_close(maps[name], expected, rtol=1e-4, atol=1e-4)
    rows = check_export(result)
    assert {row.images for row in rows} == {(2, 3, 32, 48), (3, 3, 69, 17)}
    assert all(row.passes for row in rows)


@pytest.mark.slow
@dynamic_export
def test_onnx_says_what_it_takes_in_the_opset_that_is_asked_for(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported(tmp_path, "onnx", net().half(), fixed=("size",), opset=19).path)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [19]
    (images,) = model.graph.input
    tensor = images.type.tensor_type
    assert images.name == "images"
    assert tensor.elem_type == onnx.TensorProto.FLOAT16
    assert [dim.dim_param or dim.dim_value for dim in tensor.shape.dim] == ["N", 3, 32, 48]
    with pytest.raises(ConfigError, match=r"^opset: the net becomes opset 18, .* to 3; leave it out, or take"):
        exported(tmp_path, "onnx", opset=3)
    assert onnx.load(tmp_path / "net.onnx") == model


@pytest.mark.slow
@dynamic_export
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_a_compiled_package_computes_the_same(tmp_path: Path) -> None:
    result = exported(tmp_path, "aoti", net(num_stages=1, layers=(1,)))
    rows = check_export(result)
    assert len({row.images for row in rows}) == 2
    assert all(row.passes for row in rows)


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(task: Any) -> None:
        task.path.write_text("half")
        raise ValueError("the disk is full")

    (tmp_path / "net.pt2").write_text("before")
    monkeypatch.setitem(FORMATS, "export", FORMATS["export"]._replace(write=half))
    with pytest.raises(
        RuntimeError, match="ResNet for a fixed size does not become export: ValueError: the disk is full"
    ):
        exported(tmp_path, "export", fixed=("batch", "size"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("net.pt2", "before")]
    with pytest.raises(FileNotFoundError, match=r"there is no such folder: .*nowhere"):
        exported(tmp_path / "nowhere", "export")


def test_a_file_that_its_runtime_refuses_says_so(tmp_path: Path) -> None:
    result = exported(tmp_path, "export", fixed=("batch", "size"))
    result.path.write_bytes(b"no program")
    with pytest.raises(RuntimeError, match=r"torch cannot load .*net\.pt2: "):
        check_export(result)


class _Deciding(nn.Module):
    """Another computation for other values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


@pytest.mark.filterwarnings("ignore")  # torch.export's own
def test_nets_that_cannot_be_exported_say_why(tmp_path: Path) -> None:
    backbone = net()
    backbone.layer2.append(_Deciding())
    with pytest.raises(RuntimeError, match=r"torch\.export cannot trace ResNet for a fixed size: "):
        exported(tmp_path, "export", backbone, fixed=("batch", "size"))
    with pytest.raises(RuntimeError, match=r"trace ResNet for any N: .*; with more of it fixed, it may"):
        exported(tmp_path, "export", backbone, fixed=("size",))
    with pytest.raises(RuntimeError, match="VGG cannot run on 4x4 pixels: RuntimeError: "):
        export_backbone(VGG(11), tmp_path / "net.pt2", "export", size=(4, 4), fixed=("size",))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onix"}, "format: must be one of onnx, openvino, export, aoti, got 'onix'; did you mean 'onnx'?"),
        ({"format": "openvino"}, "path: must end with .xml for format 'openvino', got 'net.pt2'"),
        ({"opset": 18}, "opset: is for format 'onnx' alone, not 'export'"),
        ({"size": (32, 0)}, "size: must be H and W in pixels, such as (224, 224), got (32, 0)"),
        ({"size": 224}, "size: must be H and W in pixels, such as (224, 224), got 224"),
        ({"size": (32.0, 48)}, "size: must be H and W in pixels, such as (224, 224), got (32.0, 48)"),
        ({"batch": 0}, "batch: must be at least 1, got 0"),
        ({"batch": 1}, "batch: must be at least 2 where any batch is taken, got 1, which torch takes for a constant"),
        ({"batch": "2"}, "batch: must be an int or None, got '2' (str)"),
        ({"format": "onnx", "path": "net.onnx", "opset": "18"}, "opset: must be an int or None, got '18' (str)"),
        ({"fixed": ("width",)}, "fixed: must hold 'batch', 'size' or both, got ('width',)"),
        (
            {"size": (15, 64)},
            "size: must be at least 16 x 16 where any size from there on is taken, got 15 x 64",
        ),
        ({"size": (40, 64), "smallest": 48}, "size: must be at least 48 x 48 where any size"),
        ({"smallest": 8}, "smallest: must be more than 8, the largest stride, got 8: torch takes a map"),
        ({"fixed": ("size",), "smallest": 48}, "smallest: is for files that take any size"),
        ({"preprocessing": {"mean": (0, 0, 0)}}, "preprocessing: must be a Preprocessing or None, got a dict"),
        ({"backbone": None}, "backbone: must be a Backbone, as build_backbone() gives it, got a NoneType"),
        ({"backbone": nn.Flatten()}, "backbone: must be a Backbone, as build_backbone() gives it, got a Flatten"),
        ({"preprocessing": CAFFE}, "preprocessing: is for pictures of 3 channels, the backbone takes 4"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        export_backbone(**{"backbone": net(in_channels=4), "path": "net.pt2", "format": "export", **options})
    assert str(refused.value).startswith(message)


def test_a_place_that_cannot_be_written_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt2").mkdir()
    with pytest.raises(ConfigError, match=r"path: must name a file, got the folder '.*/net\.pt2'"):
        exported(tmp_path, "export")

    def refused(dir: Path, prefix: str) -> Any:
        raise OSError(errno.EPERM, "Operation not permitted", f"{dir}/{prefix}lv958vk4")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    with pytest.raises(PermissionError, match="cannot be written: Operation not permitted") as error:
        export_backbone(net(), tmp_path / "b.pt2", "export")
    assert error.value.filename == str(tmp_path / "b.pt2")


@pytest.mark.parametrize("tolerance", [float("nan"), -1, float("inf")])
def test_a_tolerance_is_a_number_from_0_on(tolerance: float) -> None:
    with pytest.raises(ConfigError, match=f"tolerance: must be 0 or more, and finite, got {tolerance}"):
        check_export(None, tolerance=tolerance)  # type: ignore[arg-type]


def test_a_net_in_bfloat16_has_a_tolerance(tmp_path: Path) -> None:
    result = exported(tmp_path, "export", net().bfloat16(), fixed=("batch", "size"))
    assert all(row.passes for row in check_export(result))
    with torch.no_grad():
        result.reference.layer2[0].conv1.weight.mul_(2)
    assert [row.passes for row in check_export(result)] == [True, False]


@dynamic_export
@pytest.mark.parametrize(("branch", "pictures"), [(-1, "3N"), (1, "N")])
def test_maps_of_several_branches_say_so(branch: int, pictures: str, tmp_path: Path) -> None:
    options = dict(num_branch=3, trident_dilations=(1, 2, 3), layers=(1, 1, 1), base_channels=4)
    backbone = TridentResNet(50, test_branch_idx=branch, **options)
    result = exported(tmp_path, "export", backbone, fixed=("size",))
    assert [port.shape[0] for port in result.maps] == ["N", "N", pictures]
    assert result.maps[2].shape[1:] == (64, 2, 3)


@dynamic_export
def test_less_than_twice_the_stride_does_where_layers_round_up(tmp_path: Path) -> None:
    assert exported(tmp_path, "export", smallest=9).smallest == 9
    cure = "; with smallest at 64, twice the largest stride, and not at 40, it may"
    with pytest.raises(RuntimeError, match=cure):
        export_backbone(VGG(11), tmp_path / "net.pt2", "export", size=(64, 72), smallest=40)


def test_what_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError, match=r"'openvino' needs openvino: pip install 'backbone-kit\[export\]'"):
        exported(tmp_path, "openvino")
