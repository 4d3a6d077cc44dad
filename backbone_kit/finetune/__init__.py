"""Training on from weights that are there: what trains, how fast, and on which norms."""

from .freeze import freeze, unfreeze
from .groups import param_groups
from .norms import convert_norms
from .precise import precise_bn
from .report import what_trains
from .unused import freeze_unused

__all__ = ["convert_norms", "freeze", "freeze_unused", "param_groups", "precise_bn", "unfreeze", "what_trains"]
