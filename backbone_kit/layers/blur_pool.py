"""`BlurPool2d`: a low-pass filter with a stride."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError


class BlurPool2d(nn.Module):
    """Binomial weights over `filt_size` x `filt_size` pixels, each channel on its own, edges reflected.

    Args:
        channels: Channels of the map; without effect, as there is no weight.
        stride: Stride in pixels.
        filt_size: Side of the filter in pixels; 3 has the weights 1/4, 1/2, 1/4 along each axis.

    Raises:
        ConfigError: `filt_size` is less than 2.

    Shape:
        (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride)) for a `filt_size` of 3; H and W must be 2 or more.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv 1904.11486, section 3.
    """

    def __init__(self, channels: int | None = None, stride: int = 2, filt_size: int = 3) -> None:
        super().__init__()
        if filt_size < 2:
            raise ConfigError(f"must be 2 or more, got {filt_size}", ("filt_size",))
        self.stride = stride
        self.filt_size = filt_size

    def forward(self, x: Tensor) -> Tensor:
        """The map, blurred and thinned out."""
        x = F.pad(x, ((self.stride + self.filt_size - 2) // 2,) * 4, mode="reflect")
        # Binomial coefficients are a box of 2 folded with itself, so that averages do without weights.
        for _ in range(self.filt_size - 2):
            x = F.avg_pool2d(x, 2, 1)
        return F.avg_pool2d(x, 2, self.stride)

    def extra_repr(self) -> str:
        """For `repr`."""
        return f"stride={self.stride}, filt_size={self.filt_size}"
