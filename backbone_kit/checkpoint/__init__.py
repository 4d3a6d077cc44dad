"""Weights in: read a file without executing anything, match its keys with a model, load all or nothing."""

from .contents import Checkpoint
from .convert import convert_state_dict, detect_layout
from .entry import WeightEntry, find_entry
from .io import read_checkpoint
from .load import load_checkpoint
from .preprocessing import Preprocessing, fold_preprocessing
from .report import LoadReport

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Preprocessing",
    "WeightEntry",
    "convert_state_dict",
    "detect_layout",
    "find_entry",
    "fold_preprocessing",
    "load_checkpoint",
    "read_checkpoint",
]
