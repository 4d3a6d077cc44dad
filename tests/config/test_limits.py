"""Whatever a file holds, it ends soon: as a config or as a ConfigError."""

from __future__ import annotations

import contextlib
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbone_kit.config import Config, parse_override
from backbone_kit.errors import ConfigError

from .files import write

STEPS = "asks for more than the"
DOUBLED = "a = [1]\n" + "a = [a, a]\n" * 60
BOMBS = {
    "x = range(10**12)": STEPS,
    "x = 'a' * 10**9": STEPS,
    "x = 10**9 * (1,)": STEPS,
    "x = 9**9**9": "an integer of about .* bits; 4,096 are allowed",
    "x = 10**10000": "bits; 4,096 are allowed",
    "x = 3\n" + "x *= x\n" * 60: "bits; 4,096 are allowed",
    "x = 0x" + "f" * 100_000: "bits; 4,096 are allowed",
    "x = " + "9" * 100_000: "is no Python|bits; 4,096 are allowed",
    "x = int('9' * 100000)": "an integer of 100000 digits",
    "x = round(5, -10**9)": "digits; 1000 are the most",
    "x = '{:>999999999}'.format(1)": "a width of 999999999",
    "x = '{:{}}'.format(1, 999999999)": "a width of 999999999",
    "x = '%999999999d' % 1": "a width of 999999999",
    "x = '%.999999999f' % 1": "a width of 999999999",
    "x = '%*d' % (999999999, 1)": "a width taken from the values",
    "x = f'{1:>999999999}'": "a width of 999999999",
    "a = [1]\n" + "a = a + a\n" * 60: STEPS,
    "a = [1]\n" + "a += a\n" * 60: STEPS,
    "a = [1]\n" + "a *= 1000\n" * 6: STEPS,
    "a = [1]\n" + "a.extend(a)\n" * 60: STEPS,
    "a = 'x'\n" + "a = a + a\n" * 60: STEPS,
    "a = 'x'\n" + "a = f'{a}{a}'\n" * 60: STEPS,
    "a = 'x'\n" + "a = '%s%s' % (a, a)\n" * 60: STEPS,
    "a = 'x'\n" + "a = '{0}{0}'.format(a)\n" * 60: STEPS,
    DOUBLED: STEPS,
    DOUBLED + "x = str(a)": STEPS,
    DOUBLED + "x = f'{a}'": STEPS,
    DOUBLED + "x = '%s' % a": STEPS,
    DOUBLED + DOUBLED.replace("a", "b") + "x = a == b": STEPS,
    DOUBLED + "import copy\nx = copy.deepcopy(a)": STEPS,
    "a = (1,)\n" + "a = (a, a)\n" * 60 + "x = {a: 1}": STEPS,
    "_base_.a = [1]\n" + "_base_.a = [_base_.a, _base_.a]\n" * 40: STEPS,
    "a = 'x' * 100000\nb = [a] * 100000": STEPS,
    "x = [[0 for i in range(1000)] for j in range(100000)]": STEPS,
    "x = [1 for i in range(200) for j in range(200) for k in range(200)]": STEPS,
    "a = [1]\nx = [a.append(i) for i in a]": STEPS,
    "a = [0] * 100000\nx = [a.insert(0, 1) for _ in range(90000)]": STEPS,
    "x = sum([[1]] * 100000, [])": STEPS,
    "x = list(zip(range(10**6), range(10**6), range(10**6)))": STEPS,
    "a = []\na.append(a)": "a: a value contains itself",
    "a = dict()\na['k'] = a": "a: a value contains itself",
    "a = []\na.append(a)\nx = str(a)": STEPS,
    "a = []\n" + "a = [a]\n" * 20_000: "nested deeper than 100 levels",
    "x = " + "-" * 100_000 + "1": "nested too deeply|is no Python",
    "x = " + "(" * 100_000: "is no Python",
    "x = " + "[" * 100_000: "is no Python",
    "x = " + "+".join(["1"] * 50_000): "nested too deeply",
    "x = a" + ".a" * 50_000: "nested too deeply",
    "x = " + "not " * 50_000 + "1": "nested too deeply|is no Python",
    "x = '" + "a" * 2_000_000 + "'": "is larger than the 1,048,576 bytes",
    "x = '{{$A:" + " " * 500_000 + "'\ny = nope": "the name 'nope'",
    "x = '" + "{{$A" * 100_000 + "'\ny = nope": "the name 'nope'",
    "x = {{ " + " " * 500_000 + "\ny = nope": "is no Python",
    "x = '" + "%(" * 200_000 + "' % dict(a=1)": "a template of 400,000 characters",
    "k = '" + "".join(chr(200 + i % 300) for i in range(100_000)) + "'\nx = {k: 1}[k + 'a']": "no key",
    "r = range(900000)\nx = [0.5 in r for _ in range(1000)]": STEPS,
}


@pytest.mark.parametrize("text", BOMBS, ids=lambda text: text[:30])
def test_bombs_are_refused_in_bounded_time(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", text)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=BOMBS[text]):
        Config.fromfile(path)
    assert time.perf_counter() - start < 10


def test_alias_bombs_are_refused(tmp_path: Path) -> None:
    levels = "".join(f"k{i + 1}: &k{i + 1} [*k{i}, *k{i}, *k{i}]\n" for i in range(30))
    with pytest.raises(ConfigError, match=STEPS):
        Config.fromfile(write(tmp_path, "a.yaml", "k0: &k0 [1, 2]\n" + levels))
    merges = "".join(f"m{i}: {{<<: [{', '.join(['*m'] * 2000)}]}}\n" for i in range(2))
    keys = ", ".join(f"k{i}: 1" for i in range(2000))
    with pytest.raises(ConfigError, match=STEPS):
        Config.fromfile(write(tmp_path, "b.yaml", f"m: &m {{{keys}}}\n{merges}"))


def test_long_lines_and_device_files_are_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.json", "a.py"):
        with pytest.raises(ConfigError, match="larger than the 1,048,576 bytes"):
            Config.fromfile(write(tmp_path, name, b"a: " + b"x" * 10_000_000))


def test_bases_that_include_each_other_twice_end(tmp_path: Path) -> None:
    for level in range(40):
        write(tmp_path, f"{level}.py", f"_base_ = ['{level + 1}.py', '{level + 1}.py']")
    write(tmp_path, "40.py", "")
    with pytest.raises(ConfigError, match=STEPS):
        Config.fromfile(tmp_path / "0.py")
    for level in range(120):
        write(tmp_path, f"line{level}.yaml", f"_base_: line{level + 1}.yaml\n")
    with pytest.raises(ConfigError, match="leads through more than 100 files"):
        Config.fromfile(tmp_path / "line0.yaml")


def check(folder: Path, name: str, content: bytes) -> None:
    with warnings.catch_warnings():
        # What Python's parser says of a stray backslash.
        warnings.simplefilter("ignore")
        with contextlib.suppress(ConfigError):
            assert isinstance(Config.fromfile(write(folder, name, content)).pretty_text, str)


fuzz = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
WORDS = [
    "a",
    "b",
    "x",
    "_base_",
    "dict",
    "list",
    "range",
    "len",
    "str",
    "sum",
    "copy",
    "1",
    "-2",
    "0.5",
    "1e-3",
    "None",
    "True",
    "'a'",
    "'%s'",
    "'{}'",
    '""',
    "f'{a}'",
    "=",
    "+=",
    "*=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ".",
    ".update(",
    ".pop(\n",
    ".append(",
    ".get(",
    ".keys()",
    ".items()",
    ".format(",
    "for",
    "in",
    "if",
    "else",
    "del",
    "*",
    "**",
    "+",
    "-",
    "/",
    "//",
    "%",
    "==",
    "<",
    "not",
    "and",
    "or",
    "[0]",
    "[-1]",
    "[::-1]",
    "(a,)",
    "import",
    "from",
    "def",
    "class",
    "with",
    "return\n",
    "lambda",
    "while",
    "yield",
    "await",
    "\n",
    "\n",
    "\n",
    "\t",
    "{{",
    "}}",
    "{{_base_.a}}",
    "{{$A:1}}",
    "{{fileBasename}}",
    "#",
    "\\",
]
YAML_WORDS = [
    "a",
    "b:",
    "c:",
    "-",
    "-",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&",
    "*",
    "&a",
    "*a",
    "<<:",
    "!!str",
    "!!int",
    "!!set",
    "!!python/tuple",
    "!x",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
    "`",
    "---",
    "...",
    "~",
    "1",
    "1e-3",
    ".inf",
    "\n",
    "\n",
    "\n\n",
    "{{_base_.a}}",
    "{{$A:1}}",
    "_base_:",
    "\t",
]


@pytest.mark.parametrize("name", ["a.py", "a.yaml", "a.json"])
@fuzz
@given(content=st.binary(max_size=80))
def test_random_bytes_give_a_config_or_a_config_error(name: str, content: bytes, tmp_path: Path) -> None:
    check(tmp_path, name, content)


@fuzz
@given(words=st.lists(st.sampled_from(WORDS), max_size=25))
def test_random_python_gives_a_config_or_a_config_error(words: list[str], tmp_path: Path) -> None:
    check(tmp_path, "a.py", " ".join(words).replace("\n ", "\n").encode())


atoms = st.sampled_from(
    [
        "a",
        "b",
        "_base_",
        "1",
        "0",
        "-3",
        "2.5",
        "'s'",
        "'%d-%s'",
        "'{}{x}'",
        "None",
        "[]",
        "()",
        "{}",
        "[1, [2]]",
        "dict(a=1)",
    ]
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "|", "&", "^", "==", "<", "in", "and", "or"]),
            inner,
        ),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[{}:{}]".format, inner, inner, inner),
        st.builds("{}.{}".format, inner, st.sampled_from(["a", "keys()", "copy()", "pop()", "items", "__class__"])),
        st.builds(
            "{}.{}({})".format,
            inner,
            st.sampled_from(["update", "append", "extend", "pop", "get", "format", "insert"]),
            inner,
        ),
        st.builds(
            "{}({})".format,
            st.sampled_from(
                [
                    "len",
                    "list",
                    "tuple",
                    "set",
                    "dict",
                    "sum",
                    "min",
                    "max",
                    "round",
                    "int",
                    "float",
                    "str",
                    "bool",
                    "abs",
                    "sorted",
                    "range",
                    "zip",
                    "enumerate",
                ]
            ),
            inner,
        ),
        st.builds("[{} for a in {}]".format, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("{{*{}}}".format, inner),
        st.builds("dict(**{}, k={})".format, inner, inner),
        st.builds("(*{}, {})".format, inner, inner),
        st.builds("f'{{{}}}'".format, st.sampled_from(["a", "a!r", "a:>3", "b:d", "_base_"])),
    ),
    max_leaves=6,
)
statements = st.one_of(
    st.builds(
        "{} = {}".format,
        st.sampled_from(["a", "b", "a, b", "*a, b", "a['k']", "b[0]", "_base_.x", "_base_['y']", "a.z", "b[1:]"]),
        expressions,
    ),
    st.builds(
        "{} {}= {}".format,
        st.sampled_from(["a", "b", "a[0]", "_base_.x"]),
        st.sampled_from(["+", "*", "-", "|", "**"]),
        expressions,
    ),
    st.builds("del {}".format, st.sampled_from(["a", "b[0]", "_base_.x", "a['k']"])),
    expressions,
)


@settings(fuzz, max_examples=250)
@given(lines=st.lists(statements, max_size=8))
def test_random_statements_give_a_config_or_a_config_error(lines: list[str], tmp_path: Path) -> None:
    check(tmp_path, "a.py", "\n".join(["a = dict(k=[1, 2])", "b = [a, 3]", *lines]).encode())


@fuzz
@given(
    key=st.text("ab.[]0-1'\" ", max_size=8),
    value=st.text("ab{}[]()'\":,.=01-*&!#~ \n\t", max_size=15) | st.binary().map(repr),
)
def test_random_overrides_are_set_or_refused(key: str, value: str) -> None:
    cfg = Config({"a": {"b": [1, {"a": None}, (1, 2)]}, "b": 0})
    with contextlib.suppress(ConfigError):
        cfg.merge_from_dict(dict([parse_override(f"{key}={value}")]), source="--cfg-options")
        assert cfg.explain(key)


@fuzz
@given(words=st.lists(st.sampled_from(YAML_WORDS), max_size=25))
def test_random_yaml_gives_a_config_or_a_config_error(words: list[str], tmp_path: Path) -> None:
    check(tmp_path, "a.yaml", " ".join(words).replace("\n ", "\n").encode())


@fuzz
@given(
    words=st.lists(
        st.sampled_from(
            [
                "{",
                "}",
                "[",
                "]",
                ":",
                ",",
                '"a"',
                '"b"',
                "1",
                "-0.5",
                "null",
                "\n",
                '"!tuple"',
                '"!dict"',
                "NaN",
                "{{$A:1}}",
            ]
        ),
        max_size=20,
    )
)
def test_random_json_gives_a_config_or_a_config_error(words: list[str], tmp_path: Path) -> None:
    check(tmp_path, "a.json", "".join(words).encode())
