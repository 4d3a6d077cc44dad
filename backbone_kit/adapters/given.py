"""What an adapter is given."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import ConfigError


def check_backbone(backbone: Any, *needed: str) -> None:
    """Refuses what is no net, or has not the attributes that an adapter needs.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(backbone, nn.Module) or not all(hasattr(backbone, name) for name in needed):
        given = repr(backbone) if isinstance(backbone, str) else ""
        raise ConfigError(
            f"must be a Backbone, as build_backbone({given}) gives it, got a {type(backbone).__name__}", ("backbone",)
        )
