"""Weights in: read a file without executing anything, match its keys with a model, load all or nothing."""

from .contents import Checkpoint
from .convert import convert_state_dict, detect_layout
from .io import read_checkpoint
from .load import load_checkpoint
from .report import LoadReport

__all__ = ["Checkpoint", "LoadReport", "convert_state_dict", "detect_layout", "load_checkpoint", "read_checkpoint"]
