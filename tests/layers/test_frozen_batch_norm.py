"""FrozenBN and the conversion of whole models, against torchvision's FrozenBatchNorm2d and PyTorch's BatchNorm."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from backbone_kit.errors import ConfigError
from backbone_kit.layers import FrozenBatchNorm2d, build_norm_layer, freeze_batch_norms, thaw_batch_norms


def moved(norm: nn.Module) -> nn.Module:
    """The norm, away from its initial values."""
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            tensor.data.uniform_(0.5, 2)
    return norm


class Tied(nn.Module):
    """Norms nested, tied under two names, of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = moved(nn.BatchNorm2d(4, eps=1e-3))
        self.again = self.bn1
        self.body = nn.Sequential(
            nn.Conv2d(4, 4, 1), moved(nn.SyncBatchNorm(4)), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)
        )
        self.plain = moved(nn.BatchNorm2d(4, affine=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.again(self.body(self.bn1(x))))


def test_equals_torchvision():
    _, ours = build_norm_layer(dict(type="FrozenBN", eps=1e-4), 4)
    peer = torchvision.ops.FrozenBatchNorm2d(4, eps=1e-4)
    peer.load_state_dict(moved(ours).state_dict())
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(ours(x), peer(x))
    assert list(ours.state_dict()) == list(peer.state_dict())


def test_loads_what_a_batch_norm_saved():
    norm, x = moved(nn.BatchNorm2d(4)).eval(), torch.randn(2, 4, 5, 5)
    state = nn.Sequential(norm).state_dict()
    frozen = nn.Sequential(FrozenBatchNorm2d(4))
    frozen.load_state_dict(state)
    torch.testing.assert_close(frozen(x), norm(x))
    assert "0.num_batches_tracked" in state


def test_has_nothing_to_train_and_never_moves():
    frozen = moved(FrozenBatchNorm2d(4))
    before = copy.deepcopy(frozen.state_dict())
    frozen.train()(torch.randn(2, 4, 5, 5))
    assert list(frozen.parameters()) == []
    assert all(torch.equal(before[key], value) for key, value in frozen.state_dict().items())


def test_gradient_of_the_input():
    frozen = moved(FrozenBatchNorm2d(3)).double()
    assert torch.autograd.gradcheck(frozen, torch.randn(2, 3, 2, 2).double().requires_grad_())


def test_keeps_no_copy_of_the_input_for_the_backward_pass():
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()), lambda t: t):
        FrozenBatchNorm2d(4)(torch.randn(2, 4, 50, 50, requires_grad=True))
    assert max(saved) == 4


def test_keeps_the_dtype_of_its_input():
    assert FrozenBatchNorm2d(4)(torch.randn(2, 4, 5, 5).bfloat16()).dtype == torch.bfloat16


def test_reset_parameters_is_the_fresh_layer():
    layer, fresh = moved(FrozenBatchNorm2d(4)), FrozenBatchNorm2d(4)
    layer.reset_parameters()
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in layer.state_dict().items())


def test_freezing_keeps_the_function_and_leaves_other_norms():
    net, x = Tied().eval(), torch.randn(2, 4, 5, 5)
    expected = net(x)
    assert freeze_batch_norms(net) is net
    torch.testing.assert_close(net(x), expected)
    assert net.bn1 is net.again
    assert type(net.bn1) is FrozenBatchNorm2d
    assert net.bn1.eps == 1e-3
    kinds = [type(layer).__name__ for layer in net.body]
    assert kinds == ["Conv2d", "FrozenBatchNorm2d", "GroupNorm", "InstanceNorm2d"]


def test_thawing_is_the_way_back():
    net, x = Tied().eval(), torch.randn(2, 4, 5, 5)
    expected, keys = net(x), set(net.state_dict())
    thaw_batch_norms(freeze_batch_norms(net))
    torch.testing.assert_close(net(x), expected)
    assert net.bn1 is net.again
    assert type(net.bn1) is nn.BatchNorm2d
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert keys <= set(net.state_dict())


def test_conversion_of_torchvisions_resnet():
    net, x = torchvision.models.resnet18().eval(), torch.randn(1, 3, 32, 32)
    expected = net(x)
    freeze_batch_norms(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    torch.testing.assert_close(net(x), expected)


def test_a_norm_alone_is_converted_too():
    frozen = freeze_batch_norms(moved(nn.BatchNorm2d(4)).double().eval())
    assert type(frozen) is FrozenBatchNorm2d
    assert frozen.weight.dtype == torch.float64
    assert not frozen.training
    assert type(thaw_batch_norms(frozen)) is nn.BatchNorm2d


def test_conversion_works_on_meta():
    with torch.device("meta"):
        net = freeze_batch_norms(nn.Sequential(nn.BatchNorm2d(4)))
    assert all(tensor.is_meta for tensor in net.state_dict().values())


def test_a_norm_without_statistics_cannot_be_frozen_and_nothing_changes():
    net = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ConfigError, match="track_running_stats=False cannot be frozen"):
        freeze_batch_norms(net)
    assert type(net[0]) is nn.BatchNorm2d
