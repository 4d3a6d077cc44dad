"""Every family goes wherever ResNet goes."""

from __future__ import annotations

import torch

from backbone_kit.adapters import anchors_for, as_timm, as_torchvision
from backbone_kit.finetune import freeze, param_groups, unfreeze, what_trains
from tests.backbones.test_contract import SIZE, meta, per_class, smallest

PICTURE = torch.empty(1, 3, SIZE, SIZE, device="meta")


@per_class
def test_maps_are_what_feature_info_says(kind: str) -> None:
    model = as_timm(meta(smallest(kind)).eval())
    maps = model(PICTURE)
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [SIZE // m.shape[2] for m in maps] == model.feature_info.reduction()


@per_class
def test_a_pyramid_and_its_anchors_stand_on_it(kind: str) -> None:
    net = meta(smallest(kind)).eval()
    backbone = as_torchvision(net, out_channels=8).to("meta")
    maps = backbone(PICTURE)
    assert [SIZE // m.shape[2] for m in maps.values()] == list(backbone.out_strides)
    assert anchors_for(backbone).num_anchors_per_location() == [3] * len(maps)


@per_class
def test_fine_tuning_reaches_all_of_it(kind: str) -> None:
    net = meta(smallest(kind))
    grouped = {id(p) for group in param_groups(net, 0.1, layer_decay=0.5) for p in group["params"]}
    assert grouped == {id(p) for p in net.parameters() if p.requires_grad}
    _, *rows, total = (line.split()[1].replace(",", "") for line in what_trains(net).splitlines())
    assert sum(map(int, rows)) == int(total) == sum(p.numel() for p in net.parameters())
    assert not any(p.requires_grad for p in freeze(net, stages=len(net.stage_names)).parameters())
    assert all(p.requires_grad for p in unfreeze(net, stages=0).parameters())
