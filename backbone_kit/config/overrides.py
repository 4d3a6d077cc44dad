"""`--cfg-options model.backbone.depth=101`: parsing such a text, and setting dotted keys in a config."""

from __future__ import annotations

import ast
from typing import Any

from ..errors import ConfigError, Path
from .limits import Budget, Refused
from .mapping import BASE_KEY, DELETE_KEY, ConfigDict, as_tree, plain
from .merge import merge
from .origins import IN_CODE, NOTHING, Origin, Traced
from .paths import find, parse_path, unknown
from .statements import interpret_value
from .yaml_text import plain_scalar, read_yaml

_LITERAL = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Starred, ast.Load),
    *(ast.UnaryOp, ast.USub, ast.UAdd, ast.Call, ast.keyword, ast.Name),
)
"""What a literal is made of; `1-2` and `a/b` are text."""


def parse_override(text: str) -> tuple[str, Any]:
    """The dotted key and the value of `key=value`.

    The value is a Python literal (`[1, 2]`, `dict(a=1)`, `'50'`, `None`), a YAML one (`{a: 1}`, `true`, `null`,
    `1e-3`), or else the text itself.

    Examples:
        >>> parse_override('model.backbone.depth=101')
        ('model.backbone.depth', 101)
        >>> parse_override("model.norm_cfg={type: GN, num_groups: 32}")
        ('model.norm_cfg', {'type': 'GN', 'num_groups': 32})

    Raises:
        ConfigError: There is no `=`, the key is no dotted path, or a bracket or quote of the value is left open.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r:.100} is no override; write key=value, for example model.backbone.depth=101")
    parse_path(key.strip())
    try:
        return key.strip(), literal(value.strip())
    except (ConfigError, Refused) as error:
        raise ConfigError(f"the value {value.strip()!r:.100} of {key.strip()!r} cannot be read: {error}") from None


def literal(text: str) -> Any:
    """A Python literal, or a YAML one, or the text itself."""
    scalar = plain_scalar(text) if text else text
    if scalar is not text:
        return scalar
    try:
        tree = ast.parse(text, mode="eval")
        if all(isinstance(node, _LITERAL) for node in ast.walk(tree)):
            return plain(as_tree(interpret_value(tree.body), data_only=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # {a: 1} and [a, b] are YAML; a call means what it says.
        if isinstance(error, ConfigError) and isinstance(tree.body, ast.Call):
            raise
    if text[:1] in ("[", "{"):
        return plain(as_tree(read_yaml(text, "", Budget())))
    if text[:1] in ("(", "'", '"'):
        raise ConfigError("a bracket or a quote is left open")
    return text


def set_dotted(root: ConfigDict, key: str, value: Any, source: str) -> None:
    """Sets a dotted key; a mapping over a mapping is merged, as in a file, and `a._delete_` is said inside of `a`.

    Args:
        root: The config, changed in place.
        key: The dotted path; its parent must exist.
        value: What to set.
        source: What `source_of` will say of it.

    Raises:
        ConfigError: The parent does not exist, an index is out of range, or the key is `_base_`.
    """
    path = parse_path(key)
    if path[-1] == BASE_KEY or path == (DELETE_KEY,):
        cure = "set the keys themselves" if path[-1] == BASE_KEY else f"say it of one key: key.{DELETE_KEY}"
        raise ConfigError(f"{key!r} cannot be set in a config that is loaded already; {cure}")
    if path[-1] == DELETE_KEY:
        path, value = path[:-1], {DELETE_KEY: value}
    given = Traced()
    given["value"] = value
    given.lines["value"] = origin = Origin(source or IN_CODE)
    _set(root, path, as_tree(given)["value"], origin, ())


def _set(node: Any, path: Path, value: Any, origin: Origin, done: Path) -> Any:
    """The node with the value set in it: the same mapping, or a new list or tuple, so that what it replaced is kept."""
    part, *rest = path
    found = find(node, part, done)
    if rest:
        if found is NOTHING:
            raise unknown(node, part, done)
        old = node[found]
        # As in a file, a mapping over None is allowed.
        new = _set(ConfigDict() if old is None else old, tuple(rest), value, origin, (*done, found))
        if new is old:
            return node
        if isinstance(node, ConfigDict):
            node._put(found, new, origin)
            return node
    else:
        found = part if found is NOTHING else found
        child = ConfigDict()
        child._put(found, value, origin)
        merged = merge(child, node if isinstance(node, ConfigDict) else ConfigDict({found: node[found]}), done)
        if isinstance(node, ConfigDict):
            dict.update(node, merged)
            node._origins.update(merged._origins)
            return node
        new = merged[found]
    return type(node)(new if index == found % len(node) else item for index, item in enumerate(node))
