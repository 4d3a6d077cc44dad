"""The non-local block: every pixel sees a weighted sum over all pixels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, did_you_mean
from .conv import ConvCfg
from .conv_module import ConvModule
from .norm import NormCfg
from .plugin import PLUGIN_LAYERS

Mode = Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"]


@PLUGIN_LAYERS.register_module()
class NonLocal2d(nn.Module):
    """x + conv_out(sum over pixels j of f(x_i, x_j) · g(x_j)), with one of four affinities f.

    Args:
        in_channels: Channels C of the map.
        reduction: C over the channels of the embeddings.
        use_scale: Whether 'embedded_gaussian' divides by the square root of the embedding's channels.
        conv_cfg: Type of the convolutions, None for Conv2d.
        norm_cfg: Type of the norm after the last one, None for none.
        mode: 'gaussian': softmax(x_i · x_j); 'embedded_gaussian': softmax(theta(x_i) · phi(x_j)); 'dot_product':
            theta(x_i) · phi(x_j) / M, where M is the number of pixels j; 'concatenation':
            ReLU(w · [theta(x_i), phi(x_j)]) / M.
        sub_sample: Whether the pixels j are those of the map max-pooled by 2.
        zeros_init: Whether the block starts as the identity.
        std: Standard deviation of the weights otherwise.

    Raises:
        ConfigError: The mode is unknown, or no channels are left for the embeddings.

    Shape:
        - Input and output: (N, C, H, W)

    Source: Wang et al., Non-local Neural Networks, arXiv 1711.07971, sections 3.2 and 3.3.
    """

    _abbr_ = "nonlocal_block"

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        use_scale: bool = True,
        conv_cfg: ConvCfg | None = None,
        norm_cfg: NormCfg | None = None,
        mode: Mode = "embedded_gaussian",
        sub_sample: bool = False,
        zeros_init: bool = True,
        std: float = 0.01,
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            allowed = " or ".join(map(repr, get_args(Mode)))
            raise ConfigError(f"must be {allowed}, got {mode!r}{did_you_mean(mode, get_args(Mode))}", ("mode",))
        if not 1 <= reduction <= in_channels:
            raise ConfigError(f"must be from 1 to in_channels (={in_channels}), got {reduction}", ("reduction",))
        planes = in_channels // reduction
        self.in_channels = in_channels
        self.mode = mode
        self.scale = planes**-0.5 if use_scale and mode == "embedded_gaussian" else 1.0
        self.zeros_init = zeros_init
        self.std = std

        def embedding() -> nn.Module:
            return ConvModule(in_channels, planes, 1, conv_cfg=conv_cfg, act_cfg=None)

        def sampled(layer: nn.Module) -> nn.Module:
            return nn.Sequential(layer, nn.MaxPool2d(2)) if sub_sample else layer

        self.g = sampled(embedding())
        self.conv_out = ConvModule(planes, in_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None)
        pooled = nn.MaxPool2d(2) if sub_sample else None
        self.theta = None if mode == "gaussian" else embedding()
        self.phi = pooled if mode == "gaussian" else sampled(embedding())
        if mode == "concatenation":
            self.concat_project = ConvModule(2 * planes, 1, 1, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Draws the weights anew; under `zeros_init` the block starts as the identity."""
        norm = self.conv_out.norm
        last = norm if norm is not None and list(norm.parameters()) else self.conv_out.conv
        for part in (self.g, self.theta, self.phi, last):
            std = 0 if part is last and self.zeros_init else self.std
            for name, parameter in part.named_parameters() if part is not None else ():
                nn.init.normal_(parameter, std=std if name.endswith("weight") else 0)

    def forward(self, x: Tensor) -> Tensor:
        """The map with what its pixels see; shape (N, C, H, W)."""
        theta = _pixels(x if self.theta is None else self.theta(x))
        phi = _pixels(x if self.phi is None else self.phi(x))
        out = self._attend(theta, phi, _pixels(self.g(x)))
        seen: Tensor = self.conv_out(torch.unflatten(out.squeeze(1).mT, 2, x.shape[2:]))
        return x + seen

    def _attend(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """Sum over j of f(theta_i, phi_j) · g_j, shape (N, 1, H·W, C / reduction)."""
        if self.mode == "dot_product":
            return theta @ (phi.mT @ g / g.shape[2])  # the smaller product first
        if self.mode == "concatenation":  # w · [theta, phi] is a sum: no map of pairs with 2c channels
            of_theta, of_phi = self.concat_project.get_parameter("conv.weight").flatten().unsqueeze(1).chunk(2)
            return torch.relu(theta @ of_theta + (phi @ of_phi).mT) @ g / g.shape[2]
        return F.scaled_dot_product_attention(theta, phi, g, scale=self.scale)


def _pixels(x: Tensor) -> Tensor:
    """A map as the one head of an attention, shape (N, 1, H·W, C); contiguous, as the fast kernels want it."""
    return x.flatten(2).mT.contiguous().unsqueeze(1)
