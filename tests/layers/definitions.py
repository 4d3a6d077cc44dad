"""Layers by their papers' words, in plain torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def adaptive_weight(net: Any) -> Tensor:
    """The weight of an adaptively standardised convolution, filter by filter."""
    filters = [(w - w.mean()) / (w.var() + 1e-5).sqrt() for w in net.weight]
    return torch.stack(filters) * net.weight_gamma + net.weight_beta


def switchable_convolution(net: Any, x: Tensor) -> Tensor:
    """The layer by figure 4 of DetectoRS; weights and windows one by one."""
    x = x + F.linear(x.mean((2, 3)), net.pre_context.weight.flatten(1), net.pre_context.bias)[:, :, None, None]
    edges = torch.cat((x[..., [2, 1], :], x, x[..., [-2, -3], :]), 2)
    edges = torch.cat((edges[..., [2, 1]], edges, edges[..., [-2, -3]]), 3)
    around = edges.unfold(2, 5, 1).unfold(3, 5, 1).mean((4, 5))
    stride, dilation, groups = net.stride, net.dilation[0], net.groups
    switch = F.conv2d(around, net.switch.weight, net.switch.bias, stride)

    weight = adaptive_weight(net)
    out: Any = 0
    for share, kernel, times, name in (
        (switch, weight, 1, "offset_s"),
        (1 - switch, weight + net.weight_diff, 3, "offset_l"),
    ):
        far = times * dilation
        if hasattr(net, name):
            moves = getattr(net, name)
            offset = F.conv2d(around, moves.weight, moves.bias, stride, 1)
            y = torchvision.ops.deform_conv2d(x, offset, kernel, None, stride, (far, far), (far, far))
        else:
            y = F.conv2d(x, kernel, None, stride, far, far, groups)
        out = out + share * y
    return out + F.linear(out.mean((2, 3)), net.post_context.weight.flatten(1), net.post_context.bias)[:, :, None, None]
