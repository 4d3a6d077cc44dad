"""A backbone as a file that other runtimes take, and what that file computes beside the backbone."""

from .backbone import Exported, Port, export_backbone
from .check import Difference, check_export
from .formats import FORMATS

__all__ = ["FORMATS", "Difference", "Exported", "Port", "check_export", "export_backbone"]
