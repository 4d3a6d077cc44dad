"""YAML, JSON and dumped files: what they mean, and that dump and load give the same config."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone_kit.config import Config
from backbone_kit.errors import ConfigError

from .files import write

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(
        [
            "1",
            "1e-3",
            "1_000",
            "0x1f",
            "010",
            ".5",
            "-.inf",
            "nan",
            ".nan",
            "yes",
            "No",
            "null",
            "~",
            "",
            "<<",
            "=",
            "None",
            "True",
            "2024-01-01",
            "12:30:00",
            "a: b",
            "- a",
            "#c",
            "{{_base_.x}}",
            "{{ fileDirname }}",
            "{{$A:\n}}",
            "{{",
            "'",
            '"',
            "\\",
            " a ",
            "a\n\nb ",
            "\t",
            "é",
            "\x85\u2028",
            "!tuple",
            "*a",
            "&a",
            "%",
            "@",
            "`",
            "x" * 200,
        ]
    )
)
keys = st.text("abc_ .-é{}'\"\\", max_size=5) | st.sampled_from(
    ["dict", "float", "set", "class", "type", "1", "true", "a.b", "!tuple"]
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(st.integers() | st.text("abc"), max_size=3)
        | st.dictionaries(
            keys | st.integers(-3, 3) | st.booleans() | st.none() | st.tuples(st.integers(), st.text("ab")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
configs = st.dictionaries(
    keys.filter(lambda key: key not in ("_base_", "_delete_", "_deprecation_")), values, max_size=5
)


def exact(value: Any) -> Any:
    """A value in which equality means the same type, the same order and the same float."""
    if isinstance(value, dict):
        return [dict, [(exact(key), exact(item)) for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value), [exact(item) for item in value]]
    if isinstance(value, set):
        return [set, sorted(map(repr, value))]
    return [type(value), repr(value)]


@pytest.mark.parametrize("suffix", [".py", ".yaml", ".json"])
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(config=configs)
def test_dump_and_load_give_the_same(suffix: str, config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"dumped{suffix}"
    cfg = Config(config)
    cfg.dump(path)
    assert exact(Config.fromfile(path).to_dict()) == exact(cfg.to_dict()) == exact(config)


def test_python_text_is_evaluated_as_it_is_executed(tmp_path: Path) -> None:
    config = {"a": {"b": [1, (2,), {"c d": float("inf")}], "long": ["x" * 30] * 9}, "class": 1, "s": set(), "e": ()}
    Config(config).dump(tmp_path / "a.py")
    assert Config.fromfile(tmp_path / "a.py", trusted=True).to_dict() == config
    assert Config(config).pretty_text == (tmp_path / "a.py").read_text(encoding="utf-8")
    assert max(map(len, Config(config).pretty_text.splitlines())) <= 100


def test_dump_refuses_what_no_file_can_hold(tmp_path: Path) -> None:
    for suffix in (".py", ".yaml", ".json"):
        with pytest.raises(ConfigError, match=r"(?s)Path.*cannot be written|cannot be written.*Path"):
            Config({"a": [Path()]}).dump(tmp_path / f"a{suffix}")
        assert not (tmp_path / f"a{suffix}").exists()
    with pytest.raises(ConfigError, match=r"must end in one of \.py, \.json, \.yaml, \.yml"):
        Config().dump(tmp_path / "a.toml")


def test_yaml_numbers_and_words(tmp_path: Path) -> None:
    text = """
    floats: [1e-3, 1E5, 1.5, .5, -1., 1_0.5, +2e+3, -.inf, .INF]
    ints: [0, -1, 0x1f, 0b11, 1_000, 010]
    words: [yes, No, on, null, ~, ]
    texts: ["1", '1e-3', 1.2.3, 2024-01-01, 12:30:00, 1e, =, 0o7, nan, None]
    tags: [!!str 1, !!float 2, !!int '3', !!python/tuple [1, 2], !!set {a, b}, !!null '', !!bool 'yes']
    nan: .nan
    """
    cfg = Config.fromfile(write(tmp_path, "a.yaml", text))
    assert cfg.floats == [1e-3, 1e5, 1.5, 0.5, -1.0, 10.5, 2000.0, -math.inf, math.inf]
    assert cfg.ints == [0, -1, 31, 3, 1000, 8]
    assert cfg.words == [True, False, True, None, None]
    assert cfg.texts == ["1", "1e-3", "1.2.3", "2024-01-01", "12:30:00", "1e", "=", "0o7", "nan", "None"]
    assert cfg.tags == ["1", 2.0, 3, (1, 2), {"a", "b"}, None, True]
    assert math.isnan(cfg.nan)


YAML_STRUCTURE = """
base: &base {x: 1, y: {z: [1, 2]}}
more: &more
  w: 5
  x: 9
list:
- *base
- - a
  - |
    block
    text
  - >-
    folded
    text
merged:
  <<: [*base, *more]
  x: 2
? key
: "quoted \\u00e9\\n"
3: three
true: yes
empty:
"""


def test_yaml_structure_is_pyyamls(tmp_path: Path) -> None:
    cfg = Config.fromfile(write(tmp_path, "a.yaml", YAML_STRUCTURE))
    assert cfg.to_dict() == yaml.safe_load(YAML_STRUCTURE)
    assert cfg.list[0] is not cfg.base


def test_json_is_pythons(tmp_path: Path) -> None:
    import json

    text = '{"a": [1, -2.5e3, true, null, {"b": {}}, []], "c": "\\ud83d\\ude00 \\/ \\n", "d": NaN,\n\t"e": -Infinity}'
    assert repr(Config.fromfile(write(tmp_path, "a.json", text)).to_dict()) == repr(json.loads(text))


BROKEN = {
    "a.yaml": [
        (b"[1, 2]", 1, "holds a list; a config is a mapping"),
        (b"", 1, "is empty"),
        (b"# only a comment", 1, "is empty"),
        (b"a: 1\nb:\n  c: 1\n  d: 2\n  c: 3", 5, "the key 'c' is set twice, first on line 3"),
        (b"a:\n\tb: 1", 2, "indented with spaces, not with tabs"),
        (b"a: 1\nb: \0", 2, "holds a NUL byte"),
        (b"a: 1\n---\nb: 2", 3, "more than one document"),
        (b"a: 1\nb: [1", 3, "is no YAML"),
        (b"a: &a [*a]", 1, "\\*a contains itself"),
        (b"a: *b", 1, "\\*b is no anchor above"),
        (b"a: 1\nb: !!python/object/apply:os.getcwd []", 2, "the tag '!!python/object/apply:os.getcwd' is not allowed"),
        (b"a: !!python/name:os.system ''", 1, "not allowed"),
        (b"a: !!int x", 1, "'x' is no int"),
        (b"? [a]\n: 1", 1, "a list cannot be a key"),
        (b"a: {<<: 5}", 1, "<< needs a mapping"),
        (b"a: \xff", 1, "not text in UTF-8"),
        (b"a: " + b"9" * 5000, 1, "is no int"),
        (b"a: " + b"[" * 500, 1, "nested deeper than 100 levels"),
        (b"a: " + b"[" * 100_000, 1, "nested deeper than 100 levels|exceeded maximum nesting depth"),  # libyaml's own
    ],
    "a.json": [
        (b"[]", 1, "holds a list"),
        (b"", 1, "expected a value, got the end of the file"),
        (b'{"a": 1,\n "a": 2}', 2, "the key 'a' is set twice, first on line 1"),
        (b'{"a": 1,\n}', 2, "expected a key in double quotes, got '}'"),
        (b'{"a" 1}', 1, "expected ':', got '1'"),
        (b'{"a": [1 2]}', 1, "expected ',' or ']', got '2'"),
        (b'{"a": 1}\n{', 2, "expected the end of the file"),
        (b"{'a': 1}", 1, "expected a key in double quotes or '}'"),
        (b'{"a": tru}', 1, "expected a value, got 'tru}'"),
        (b'{"a": "\\x"}', 1, "is no JSON"),
        (b'{"a":\n {"!set": [[1]]}}', 2, "!set holds what cannot be in a set"),
        (b"[" * 100_000, 1, "nested deeper than 100 levels"),
    ],
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BROKEN.items() for case in cases])
def test_broken_text_is_refused_at_its_line(name: str, case: tuple[bytes, int, str], tmp_path: Path) -> None:
    text, line, message = case
    with pytest.raises(ConfigError, match=message) as caught:
        Config.fromfile(write(tmp_path, name, text))
    assert caught.value.problems[0].source.endswith(f"{name}:{line}")
