"""Split attention equals timm's; what it says where it cannot work; a batch of one."""

from __future__ import annotations

import copy

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import DCNv2, RFConv2d, RSoftmax, SplitAttentionConv2d

from .graphs import compiles_trains_and_exports

SPLITS = [(1, 1), (2, 1), (4, 1), (3, 2), (2, 2), (1, 4), (4, 2)]


def fresh(*args, **kwargs) -> SplitAttentionConv2d:
    """A layer whose norms are off their start."""
    layer = SplitAttentionConv2d(*args, **kwargs).double()
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for value in (norm.weight, norm.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
            for value in (norm.bias, norm.running_mean):
                nn.init.normal_(value)
    return layer


@pytest.mark.parametrize(("radix", "groups"), SPLITS)
@pytest.mark.parametrize("training", [False, True])
def test_equals_timms_in_outputs_gradients_and_keys(radix, groups, training):
    shape = dict(kernel_size=3, stride=2, padding=2, dilation=2, groups=groups, radix=radix)
    ours = fresh(48, 24, **shape).train(training)
    theirs = timm.layers.SplitAttn(48, 24, **shape, rd_divisor=1, norm_layer=nn.BatchNorm2d).double().train(training)
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(3, 48, 9, 8).double()
    torch.testing.assert_close(ours(x), theirs(x))
    for net in (ours, theirs):
        net.zero_grad()
        net(x).square().sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters()):
        torch.testing.assert_close(mine.grad, other.grad, msg=name)


def test_cardinal_groups_attend_to_their_own_channels():
    x = torch.randn(2, 2 * 3 * 4, 1, 1)  # ordered by group, split, channel
    weights = RSoftmax(3, 2)(x).reshape(2, 3, 2, 4)
    for group in range(2):
        logits = x.reshape(2, 2, 3, 4)[:, group]
        torch.testing.assert_close(weights[:, :, group], logits.exp() / logits.exp().sum(1, keepdim=True))


def test_dropblock_drops_behind_the_first_norm_while_training():
    plain = fresh(8, 6, 3, padding=1, radix=0).eval()
    layer = SplitAttentionConv2d(8, 6, 3, padding=1, radix=0, dropblock_prob=0.3).double()
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(4, 8, 16, 16).double()
    torch.testing.assert_close(layer.eval()(x), plain(x))
    layer.dropblock.train()
    assert (layer(x) == 0).double().mean() - (plain(x) == 0).double().mean() > 0.05
    with pytest.raises(ConfigError, match="dropblock_warmup: has no effect without dropblock_prob"):
        SplitAttentionConv2d(8, 6, 3, dropblock_warmup=5)


def test_radix_0_is_the_convolution_its_norm_and_the_activation():
    layer, x = fresh(8, 6, 3, padding=1, groups=2, radix=0), torch.randn(2, 8, 5, 5).double()
    assert sorted({key.split(".")[0] for key in layer.state_dict()}) == ["bn0", "conv"]
    torch.testing.assert_close(layer(x), layer.bn0(F.conv2d(x, layer.conv.weight, padding=1, groups=2)).relu())


def test_dcn_and_conv_cfg_choose_the_convolution():
    dcn = dict(type="DCNv2", deform_groups=2, fallback_on_stride=True)
    deformable = SplitAttentionConv2d(8, 8, 3, padding=1, dcn=dcn)
    assert (type(deformable.conv), deformable.conv.groups, deformable.conv.deform_groups) == (DCNv2, 2, 2)
    assert type(SplitAttentionConv2d(8, 8, 3, stride=2, padding=1, dcn=dcn).conv) is nn.Conv2d
    assert dcn["fallback_on_stride"] is True
    assert list(deformable.state_dict())[:3] == ["conv.weight", "conv.conv_offset.weight", "conv.conv_offset.bias"]
    assert SplitAttentionConv2d(8, 8, 3, conv_cfg=dict(type="ConvWS")).conv.eps == 1e-5


def test_rectified_is_a_rectified_convolution_where_it_pads():
    assert type(SplitAttentionConv2d(8, 8, 3, padding=1, rectified=True).conv) is RFConv2d
    assert SplitAttentionConv2d(8, 8, 3, padding=1, rectified=True, rectify_avg=True).conv.average_mode
    assert type(SplitAttentionConv2d(8, 8, 3, rectified=True).conv) is nn.Conv2d


def test_other_norms_and_activations_take_part():
    norm = dict(type="GN", num_groups=4)
    layer = SplitAttentionConv2d(8, 8, 3, norm_cfg=norm, act_cfg=dict(type="SiLU"))
    assert list(layer.state_dict())[1:3] == ["gn0.weight", "gn0.bias"]
    assert type(layer.relu) is nn.SiLU
    assert layer(torch.randn(1, 8, 6, 6)).shape == (1, 8, 4, 4)  # a batch of one has no meaning for GroupNorm


def test_one_picture_cannot_train_its_batchnorm_and_the_message_says_what_can_be_done():
    layer, x = fresh(8, 8, 3), torch.randn(1, 8, 6, 6).double()
    with pytest.raises(ValueError, match=r"bn1.* one value a channel.*norm_eval=True.*batch_of_one='running_stats'"):
        layer(x)
    layer.bn1.eval()
    assert layer(x).shape == (1, 8, 4, 4)


@pytest.mark.parametrize(("processes", "refused"), [(1, True), (2, False)])
def test_one_picture_a_process_trains_a_norm_that_others_share(processes, refused, monkeypatch):
    layer = SplitAttentionConv2d(8, 8, 3, norm_cfg=dict(type="SyncBN"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: processes)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", lambda self, x: x)  # it needs a GPU
    if refused:
        with pytest.raises(ValueError, match="cannot train on one picture"):
            layer(torch.randn(1, 8, 6, 6))
    else:
        assert layer(torch.randn(1, 8, 6, 6)).shape == (1, 8, 4, 4)


def test_running_stats_let_one_picture_train():
    layer, x = fresh(8, 8, 3, batch_of_one="running_stats"), torch.randn(1, 8, 6, 6).double()
    resting = copy.deepcopy(layer)
    resting.bn1.eval()
    before = copy.deepcopy(layer.bn1.state_dict())
    torch.testing.assert_close(layer(x), resting(x))
    assert all(torch.equal(value, before[key]) for key, value in layer.bn1.state_dict().items())
    layer(x).sum().backward()
    assert layer.bn1.weight.grad.any()
    layer(torch.randn(2, 8, 6, 6).double())  # two pictures train it as ever
    assert layer.bn1.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(radix=-1), "radix: must be 0 or more, got -1"),
        (dict(groups=0), "groups: must be 1 or more, got 0"),
        (dict(reduction_factor=0), "reduction_factor: must be 1 or more, got 0"),
        (dict(groups=3), r"groups: `in_channels` \(=8\) must be divisible by groups \(=3\) times radix \(=2\)"),
        (dict(radix=3), r"`in_channels` \(=8\) must be divisible by groups \(=1\) times radix \(=3\)"),
        (dict(groups=4, channels=6), r"groups: must divide `channels` \(=6\) .* \(=32\), got 4"),
        (dict(rectify_avg=True), "rectify_avg: has no effect without rectified=True"),
        (dict(rectified=True, padding=1, dcn=dict(type="DCN")), "rectified: takes the place of .* dcn={'type': 'DCN'}"),
        (dict(norm_cfg=dict(type="IN")), "norm_cfg: InstanceNorm2d makes the pooled map, one pixel, 0"),
        (dict(norm_cfg=dict(type="GN", num_groups=5)), "norm_cfg: GroupNorm"),
        (dict(dcn=dict(type="DCNv3")), r"dcn.type: unknown conv layer 'DCNv3'; did you mean 'DCNv2'\?"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitAttentionConv2d(8, **{"channels": 8, "kernel_size": 3, **options})


def test_it_keeps_channels_last():
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    assert SplitAttentionConv2d(8, 8, 3)(x).is_contiguous(memory_format=torch.channels_last)


def test_gradients():
    layer, x = fresh(8, 4, 3, groups=2, radix=2).eval(), torch.randn(2, 8, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.conv.weight, layer.fc1.weight, layer.fc2.bias))


@pytest.mark.slow
@pytest.mark.parametrize("radix", [0, 1, 2])
def test_compiles_and_exports(radix):
    layer = SplitAttentionConv2d(8, 8, 3, padding=1, radix=radix).eval()
    compiles_trains_and_exports(layer, torch.randn(2, 8, 8, 9), torch.randn(3, 8, 7, 12))
