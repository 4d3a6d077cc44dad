"""Weights in: read a file without executing anything, match its keys with a model, load all or nothing."""

from .load import LoadReport, load_checkpoint

__all__ = ["LoadReport", "load_checkpoint"]
