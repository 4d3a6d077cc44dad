"""Heads around a backbone."""

from .classifier import ClassifierHead

__all__ = ["ClassifierHead"]
