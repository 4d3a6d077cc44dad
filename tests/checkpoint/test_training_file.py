"""A training file of MMEngine's runner, with a whole detector, its optimizer and its history, gives its backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from backbone_kit import build_backbone, load_checkpoint


class Detector(nn.Module):
    """A backbone, a neck and two heads under MMDetection's names."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone("resnet18")
        self.neck = nn.ModuleList([nn.Conv2d(64 * 2**i, 16, 1) for i in range(4)])
        self.rpn_head = nn.Conv2d(16, 3, 1)
        self.roi_head = nn.Linear(16, 4)


@pytest.fixture(scope="module")
def epoch_12(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    """As CheckpointHook and LoggerHook leave it: parts of what `Runner.save_checkpoint` collects."""
    logging = pytest.importorskip("mmengine.logging")
    runner = pytest.importorskip("mmengine.runner")
    model = Detector()
    loss = sum(out.sum() for out in model.backbone(torch.randn(2, 3, 64, 64)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss.backward()
    optimizer.step()
    hub = logging.MessageHub.get_instance("backbone_kit_test")
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("epoch", 12)
    path = tmp_path_factory.mktemp("run") / "epoch_12.pth"
    checkpoint = {
        "meta": {"epoch": 12, "iter": 100, "mmengine_version": "0.10.7", "experiment_name": "test"},
        "state_dict": model.state_dict(),
        "message_hub": hub.state_dict(),
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"last_step": 12}],
    }
    runner.save_checkpoint(checkpoint, str(path))
    return path, model


def test_its_backbone_loads_and_the_rest_is_told(epoch_12: tuple[Path, Detector]) -> None:
    path, detector = epoch_12
    net = build_backbone("resnet18").eval()
    report = load_checkpoint(net, path)
    assert all(torch.equal(value, detector.state_dict()[f"backbone.{key}"]) for key, value in net.state_dict().items())
    assert report.left_aside == {"neck": 8, "rpn_head": 2, "roi_head": 2}
    assert set(report.not_read) == {"meta", "message_hub", "optimizer", "param_schedulers"}
    assert "mmengine.logging.history_buffer.HistoryBuffer" in report.inert
    assert report.verdict.startswith("120 of 120 served · 0 renamed · left aside: neck 8, rpn_head 2, roi_head 2 · ")


def test_a_model_on_the_meta_device_takes_it_too(epoch_12: tuple[Path, Detector]) -> None:
    path, detector = epoch_12
    with torch.device("meta"):
        net = build_backbone("resnet18")
    load_checkpoint(net, path, prefix="backbone")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(net.eval()(x), detector.backbone.eval()(x)):
            assert torch.equal(ours, expected)
