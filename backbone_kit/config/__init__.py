"""Configs: YAML, JSON and `.py` files in one `_base_` chain, read as data, with the file and line of every key."""

from .config import Config
from .mapping import ConfigDict
from .overrides import parse_override

__all__ = ["Config", "ConfigDict", "parse_override"]
