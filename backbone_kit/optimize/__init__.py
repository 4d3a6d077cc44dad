"""What makes a backbone quicker or smaller without changing what it computes."""

from ..layers.conv_norm import fold_norms
from .prepare import PreparedBackbone, prepare_for_inference

__all__ = ["PreparedBackbone", "fold_norms", "prepare_for_inference"]
