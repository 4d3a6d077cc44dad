"""Configs: YAML, JSON and `.py` files in one `_base_` chain, read as data, with the file and line of every key."""

from backbone_kit.config.config import Config
from backbone_kit.config.mapping import ConfigDict
from backbone_kit.config.overrides import parse_override

__all__ = ["Config", "ConfigDict", "parse_override"]
