"""Deformable convolutions leave PyTorch: in plain operators for onnxruntime and OpenVINO, as one node on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbone_kit.layers import build_conv_layer, onnx_deform_conv

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the exporter's and the runtimes' own
LAYERS: dict[str, Any] = {
    "dcn": dict(type="DCN"),
    "dcnv2_grouped": dict(type="DCNv2", deform_groups=2),
    "sac": dict(type="SAC", use_deform=True),
}


def layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    groups = 2 if "grouped" in kind else 1
    net = build_conv_layer(LAYERS[kind], 8, 12, 3, stride=2, padding=1, groups=groups, bias=False)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


def exported(net: nn.Module, x: Tensor, path: Path, *, dynamic: bool, **options: Any) -> str:
    sizes = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4), 3: torch.export.Dim("w", min=4)}
    dynamic_shapes = (sizes,) if dynamic else None
    torch.onnx.export(net, (x,), str(path), dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False, **options)
    return str(path)


def in_onnxruntime(model: str, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def in_openvino(model: str, x: Tensor) -> Tensor:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(np.array(compiled([x.numpy()])[0]))


@pytest.mark.parametrize(("kind", "dynamic"), [*((kind, True) for kind in LAYERS), ("dcnv2_grouped", False)])
@torch.no_grad()
def test_runtimes_compute_the_same(kind: str, dynamic: bool, tmp_path: Path) -> None:
    net, x = layer(kind), torch.randn(2, 8, 9, 7)
    model = exported(net, x, tmp_path / "net.onnx", dynamic=dynamic)
    assert "DeformConv" not in {node.op_type for node in onnx.load(model).graph.node}
    for maps in [x, torch.randn(3, 8, 12, 21)] if dynamic else [x]:
        for run in (in_onnxruntime, in_openvino):
            torch.testing.assert_close(run(model, maps), net(maps), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not hasattr(torch.onnx, "ops"), reason="needs torch 2.8")
@pytest.mark.parametrize("kind", ["dcn", "dcnv2_grouped"])
@torch.no_grad()
def test_one_node_is_written_on_request(kind: str, tmp_path: Path) -> None:
    net, x = layer(kind), torch.randn(2, 8, 9, 7)
    with onnx_deform_conv():
        model = exported(net, x, tmp_path / "net.onnx", dynamic=False, opset_version=19)
        torch.testing.assert_close(net(x), layer(kind)(x))  # in PyTorch itself nothing changes
    graph = onnx.load(model)
    assert [node.op_type for node in graph.graph.node].count("DeformConv") == 1
    assert {node.op_type for node in graph.graph.node}.isdisjoint({"Gather", "GatherND"})
    onnx.checker.check_model(graph)
    reference = onnx.reference.ReferenceEvaluator(graph)
    out = reference.run(None, {graph.graph.input[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(out), net(x), rtol=1e-4, atol=1e-4)
