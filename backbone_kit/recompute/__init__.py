"""Less kept for backward: what is made again there, and which of it."""

from .block import recompute
from .policy import Recomputation, Recompute
from .tape import unit_ends

__all__ = ["Recomputation", "Recompute", "recompute", "unit_ends"]
