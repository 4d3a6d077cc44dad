"""Global response normalisation: channels compete by how strong they are over the whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .plugin import PLUGIN_LAYERS


@PLUGIN_LAYERS.register_module()
class GRN(nn.Module):
    """x + gamma · x · n + beta, n = ‖x‖ / mean(‖x‖): norms over H and W, the mean over channels. It starts as identity.

    Args:
        in_channels: Channels C of the map.
        eps: Added to the mean.

    Shape:
        - Input and output: (N, C, H, W), in either memory format, which is kept.

    Source: Woo et al., "ConvNeXt V2", arXiv 2301.00808, section 3.2 and algorithm 1.
    """

    _abbr_ = "grn"

    def __init__(self, in_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.eps = eps
        self.gamma = nn.Parameter(torch.empty(in_channels))
        self.beta = nn.Parameter(torch.empty(in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The identity: gamma and beta 0."""
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        precise = torch.promote_types(x.dtype, torch.float32)  # a sum of squares leaves half precision's range
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=precise)
        share = norm / (norm.mean(1, keepdim=True) + self.eps)
        factor = 1 + self.gamma.view(-1, 1, 1) * share
        return torch.addcmul(self.beta.view(-1, 1, 1).to(x.dtype), x, factor.to(x.dtype))

    def extra_repr(self) -> str:
        """What repr() shows."""
        return f"{self.in_channels}, eps={self.eps}"
