"""The two things that `init_cfg` can say: how to fill weights, and which weights to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from ..errors import ConfigError
from ..layers.weight_init import INITIALIZERS
from ..registry import Registry

WEIGHTS = Registry("weight source")


@WEIGHTS.register_module()
class Pretrained:
    """Weights from a checkpoint.

    Args:
        checkpoint: A path that `load_checkpoint` can read.
        prefix: What stands before the backbone's keys in the checkpoint; None: found out.
        adapt_stem: How a stem of another number of channels takes the weights: 'sum' or 'repeat'; None: not at all.
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, adapt_stem: Literal["sum", "repeat"] | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.adapt_stem = adapt_stem


class _InitCfgChecker:
    """Checks an entry of `init_cfg` against the registry that its type belongs to."""

    def check(self, cfg: Any, path: tuple[str | int, ...] = ()) -> list[Any]:
        pretrained = isinstance(cfg, Mapping) and cfg.get("type") in WEIGHTS
        return (WEIGHTS if pretrained else INITIALIZERS).check(cfg, path)


InitCfg = Annotated[Mapping[str, Any], _InitCfgChecker()]


def split_init_cfg(
    init_cfg: InitCfg | Sequence[InitCfg] | None, pretrained: str | None
) -> tuple[list[Mapping[str, Any]] | None, Pretrained | None]:
    """The entries that fill weights (None where there are none), and the weights to load afterwards.

    Raises:
        ConfigError: Both arguments are given, or more than one checkpoint.
    """
    if pretrained is not None and init_cfg is not None:
        raise ConfigError(
            f"got both pretrained={pretrained!r} and init_cfg; pretrained is short for "
            f"init_cfg=dict(type='Pretrained', checkpoint={pretrained!r}): keep one of them",
            ("pretrained",),
        )
    if pretrained is not None:
        return None, Pretrained(pretrained)
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg or ())
    sources = [entry for entry in entries if entry.get("type") in WEIGHTS]
    fills = [entry for entry in entries if entry.get("type") not in WEIGHTS]
    if len(sources) > 1:
        raise ConfigError(f"names {len(sources)} checkpoints; keep one", ("init_cfg",))
    return fills or None, WEIGHTS.build(sources[0]) if sources else None
