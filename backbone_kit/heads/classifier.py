"""`ClassifierHead`: a backbone, a pool, a linear layer."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones import Backbone
from ..backbones.ranges import check_rate
from ..checkpoint import LoadReport, convert_state_dict, load_checkpoint, read_checkpoint
from ..checkpoint.load import Source
from ..errors import CheckpointError, ConfigError

GlobalPool = Literal["avg", "max", "avgmax", "catavgmax"]


class ClassifierHead(nn.Module):
    """Turns a backbone into a classifier, of the last of its maps.

    Args:
        backbone: What gives the maps.
        num_classes: Classes; 0: no linear layer, the output is the pooled map.
        global_pool: 'avg', 'max', their mean 'avgmax', or both behind each other, 'catavgmax'.
        drop_rate: Dropout probability before the linear layer.

    Attributes:
        num_features: Channels of the backbone's last map.

    Raises:
        ConfigError: An argument is out of range.

    Shape:
        - Input: (N, in_channels, H, W)
        - Output: (N, num_classes); with `num_classes=0`, (N, num_features), or twice that for 'catavgmax'.

    Examples:
        >>> import torch
        >>> from backbone_kit import build_backbone
        >>> net = ClassifierHead(build_backbone('resnet18'), num_classes=10)
        >>> net(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, backbone: Backbone, num_classes: int = 1000, global_pool: GlobalPool = "avg", drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        check_rate("drop_rate", drop_rate)
        self.backbone = backbone
        self.num_features = backbone.out_channels[-1]
        self.drop_rate = drop_rate
        self.global_pool = global_pool
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """Puts a new linear layer, for so many classes, in place of the present one; 0: none.

        Args:
            num_classes: Classes.
            global_pool: Another pool; None: the present one.

        Raises:
            ConfigError: An argument is out of range.
        """
        if num_classes < 0:
            raise ConfigError(f"must be 0 or more, got {num_classes}", ("num_classes",))
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in get_args(GlobalPool):
            raise ConfigError(f"must be one of {', '.join(get_args(GlobalPool))}, got {pool!r}", ("global_pool",))
        self.num_classes, self.global_pool = num_classes, pool
        width = self.num_features * (2 if pool == "catavgmax" else 1)
        like = next(self.backbone.parameters())
        linear = nn.Linear(width, num_classes, device=like.device, dtype=like.dtype) if num_classes else nn.Identity()
        self.fc: nn.Module = linear

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.fc

    def forward_features(self, x: Tensor) -> Tensor:
        """The backbone's last map."""
        y: Tensor = self.backbone(x)[-1]
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """From the last map to the logits; `pre_logits`: to what the linear layer takes."""
        parts = []
        if self.global_pool != "max":
            parts.append(F.adaptive_avg_pool2d(x, 1))
        if self.global_pool != "avg":
            parts.append(F.adaptive_max_pool2d(x, 1))
        x = torch.stack(parts).mean(0) if self.global_pool == "avgmax" else torch.cat(parts, 1)
        x = x.flatten(1)
        x = F.dropout(x, self.drop_rate, self.training)
        logits: Tensor = x if pre_logits else self.fc(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.forward_head(self.forward_features(x))

    def load_checkpoint(self, source: Source, layout: str = "auto", **options: Any) -> LoadReport:
        """Loads a whole classifier's weights; all or nothing.

        Args:
            source: As for `backbone_kit.load_checkpoint`.
            layout: Whose names the source has, as there.
            **options: Its other arguments.

        Returns:
            What went where in the backbone.

        Raises:
            CheckpointError: As there; or the source's linear layer is missing, or of another size.
        """
        found = convert_state_dict(read_checkpoint(source, ema=options.get("ema", False)).tensors, layout)
        linear: dict[str, Tensor] = {}
        for key, own in self.fc.state_dict().items():
            value = found.get(f"fc.{key}")
            cure = "load_checkpoint(head.backbone, ...) loads the backbone alone"
            if value is None:
                raise CheckpointError(f"fc.{key} is not there; {cure}")
            if value.numel() != own.numel() or len(value) != len(own):
                sizes = f"{tuple(value.shape)} there, {tuple(own.shape)} here"
                raise CheckpointError(f"fc.{key} is {sizes}; reset_classifier({len(value)}) fits it; {cure}")
            linear[key] = value.reshape(own.shape)
        report = load_checkpoint(self.backbone, source, layout, **options)
        self.fc.load_state_dict(linear)
        return report
