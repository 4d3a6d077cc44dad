"""What a model costs and what its features look like. Takes any `nn.Module`; imports nothing but torch."""

from .parts import Contents
from .report import PartReport, Report, analyze, capture, count_parameters, input_channels

__all__ = ["Contents", "PartReport", "Report", "analyze", "capture", "count_parameters", "input_channels"]
