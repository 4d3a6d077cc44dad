"""Config as a mapping: access, copies, sources, explanations, overrides."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import addict
import pytest

from backbone_kit.config import Config, ConfigDict, parse_override
from backbone_kit.errors import ConfigError

from .files import write


@pytest.fixture
def cfg() -> Config:
    backbone = {"type": "ResNet", "depth": 50, "out_indices": (0, 1), "norm_cfg": None}
    return Config({"model": {"backbone": backbone}, "pipeline": [{"type": "Load"}, {"type": "Pack", "keys": [1]}]})


def test_is_a_mapping_with_attributes(cfg: Config) -> None:
    assert isinstance(cfg, dict)
    assert isinstance(cfg, addict.Dict)
    assert cfg.model.backbone.depth == cfg["model"]["backbone"]["depth"] == 50
    assert cfg.pipeline[1].type == "Pack"
    assert "model" in cfg
    assert dict(**cfg) == dict(cfg) == cfg
    cfg.model.neck = {"type": "FPN"}
    cfg.model["head"] = [{"type": "H"}]
    assert (cfg.model.neck.type, cfg.model.head[0].type) == ("FPN", "H")
    del cfg.model.neck
    assert "neck" not in cfg.model


def test_what_is_missing_is_an_error(cfg: Config) -> None:
    with pytest.raises(AttributeError, match="the config has no 'dpeth'; did you mean 'depth'"):
        _ = cfg.model.backbone.dpeth
    with pytest.raises(KeyError, match="dpeth"):
        cfg.model.backbone["dpeth"]
    with pytest.raises(AttributeError, match="no 'dpeth'"):
        del cfg.model.backbone.dpeth
    with pytest.raises(KeyError):
        cfg.pop("dpeth")
    with pytest.raises(AttributeError, match=r"'items' is a member of Config: write cfg\['items'\]"):
        cfg.items = 3
    assert not hasattr(cfg, "dpeth")
    assert "dpeth" not in cfg.model.backbone
    assert getattr(cfg, "dpeth", 3) == cfg.get("dpeth", 3) == 3


def test_a_given_mapping_is_copied_and_never_modified() -> None:
    class Net:
        pass

    given: dict[str, Any] = {"a": {"_delete_": True, "b": [{"c": 1}]}, "net": Net}
    before = copy.deepcopy(given)
    cfg = Config(given)
    cfg.a.b[0].c = 2
    cfg.a.b.append(3)
    assert given == before
    assert cfg.net is Net
    inner = Config(cfg)
    inner.a.b[0].c = 5
    assert cfg.a.b[0].c == 2


def test_plain_dicts_come_back(cfg: Config) -> None:
    def kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        return {type(value)}.union(*map(kinds, inner))

    assert kinds(cfg.to_dict()) == {dict, list, tuple, str, int, type(None)}
    assert cfg.to_dict() == cfg


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda cfg: pickle.loads(pickle.dumps(cfg)), copy.copy, Config])
def test_copies_keep_type_sources_and_filename(clone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "b.py", "model = dict(depth=1)")
    write(tmp_path, "a.py", "_base_ = 'b.py'\n\nmodel = dict(\n    depth=2)")
    twin = clone(Config.fromfile("a.py"))
    assert type(twin) is Config
    assert type(twin.model) is ConfigDict
    assert twin == {"model": {"depth": 2}}
    assert twin.filename == "a.py"
    assert twin.model.source_of("depth") == "a.py:4"
    assert "replaced 1, set by b.py:1" in twin.explain("model.depth")


def test_a_key_named_filename_is_the_configs() -> None:
    cfg = Config({"filename": "x", "dump": 1})
    assert (cfg["filename"], cfg.filename, cfg["dump"]) == ("x", None, 1)


def test_dict_operators() -> None:
    cfg = Config({"a": {"x": 1}})
    assert cfg | {"a": {"y": 2}} == {"a": {"x": 1, "y": 2}}
    assert {"b": 1} | cfg == {"b": 1, "a": {"x": 1}}
    assert cfg == {"a": {"x": 1}}
    cfg.setdefault("b", {"z": 1})
    assert cfg.b.z == 1


@pytest.mark.parametrize("bad", [[1], "a.py", 5])
def test_is_made_from_mappings_only(bad: Any) -> None:
    with pytest.raises(ConfigError, match="a config is made from a mapping, got"):
        Config(bad)


def test_a_mapping_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"a": []}
    loop["a"].append(loop)
    with pytest.raises(ConfigError, match="a: a value contains itself"):
        Config(loop)
    with pytest.raises(ConfigError, match="contains itself"):
        Config().x = loop


PY = """
norm = dict(type='BN')
model = dict(
    backbone=dict(
        type='ResNet', depth=50,
        norm_cfg=norm),
    **{'neck': None,
       'head': [dict(k=1)]})
model['new'] = 1
model.update(
    late=2)
model['head'][0]['k'] = 2
lr = 1
lr *= 3
other = dict(model, own=1)
"""
YAML = """
model:
  backbone:
    type: ResNet
    "depth": 50

  list: [{k: 1},
         {k: 2}]
base: &b {x: 1}
use:
  <<: *b
  y: 2
"""
JSON = """{
  "model": {"backbone":
     {"depth": 50}},
  "list": [
     {"k": {}}]
}"""


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        (
            "a.py",
            PY,
            {
                ("norm",): 2,
                ("norm", "type"): 2,
                ("model",): 3,
                ("model", "backbone"): 4,
                ("model", "backbone", "depth"): 5,
                ("model", "backbone", "norm_cfg"): 6,
                ("model", "backbone", "norm_cfg", "type"): 2,
                ("model", "neck"): 7,
                ("model", "head"): 8,
                ("model", "head", 0, "k"): 12,
                ("model", "new"): 9,
                ("model", "late"): 11,
                ("lr",): 14,
                ("other", "new"): 9,
                ("other", "own"): 15,
            },
        ),
        (
            "a.yaml",
            YAML,
            {
                ("model",): 2,
                ("model", "backbone"): 3,
                ("model", "backbone", "depth"): 5,
                ("model", "list"): 7,
                ("model", "list", 0, "k"): 7,
                ("model", "list", 1, "k"): 8,
                ("use", "x"): 9,
                ("use", "y"): 12,
            },
        ),
        ("a.json", JSON, {("model",): 2, ("model", "backbone", "depth"): 3, ("list",): 4, ("list", 0, "k"): 5}),
    ],
)
def test_every_key_knows_its_line(
    name: str, text: str, lines: dict[tuple[str | int, ...], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, name, text)
    cfg = Config.fromfile(tmp_path / name)
    for path, line in lines.items():
        node: Any = cfg
        for part in path[:-1]:
            node = node[part]
        assert node.source_of(path[-1]) == f"{name}:{line}", path


def test_explain_tells_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.yaml", "model:\n  depth: 50\n  neck: {out: 1}\n")
    write(tmp_path, "b.py", "_base_ = 'a.yaml'\nmodel = dict(depth=101)")
    write(tmp_path, "c.py", "_base_ = 'b.py'\n\n_base_.model.depth = 34\nx = [dict(k=1)]")
    cfg = Config.fromfile("c.py")
    cfg.merge_from_dict(dict([parse_override("model.depth=18")]), source="--cfg-options")
    assert cfg.explain("model.depth") == (
        "model.depth = 18\n  set by --cfg-options\n  replaced 34, set by c.py:3\n"
        "  replaced 101, set by b.py:2\n  replaced 50, set by a.yaml:2"
    )
    assert cfg.explain("model").splitlines()[1:] == ["  set by b.py:2", "  merged into the dict set by a.yaml:1"]
    assert cfg.explain("model.neck.out") == "model.neck.out = 1\n  set by a.yaml:3"
    cfg.merge_from_dict({"x.0.k": 5, "model": {"neck": {"out": 7}}, "y": [1, 2]}, source="here")
    cfg.merge_from_dict({"y.1": 3}, source="there")
    assert cfg.explain("x.0.k").splitlines()[1:] == ["  set by here", "  replaced 1, set by c.py:4"]
    assert cfg.explain("model.neck.out").splitlines()[1:] == ["  set by here", "  replaced 1, set by a.yaml:3"]
    assert cfg.explain("model").splitlines()[1:3] == ["  set by here", "  merged into the dict set by b.py:2"]
    assert cfg.explain("y") == "y = [1, 3]\n  set by there\n  replaced [1, 2], set by here"
    cfg = Config.fromfile("c.py")
    assert cfg.explain("x[0].k") == cfg.explain("x.0.k") == "x[0].k = 1\n  set by c.py:4"
    assert Config({"a": 1}).explain("a") == "a = 1\n  set in code"
    with pytest.raises(ConfigError, match="model: no key 'dpeth'; did you mean 'depth'"):
        cfg.explain("model.dpeth")


def test_overrides_set_merge_and_index(cfg: Config) -> None:
    cfg.merge_from_dict(
        {
            "model.backbone.depth": 101,
            "model.backbone.new": {"a": 1},
            "model.backbone.out_indices.-1": 3,
            "model.backbone.norm_cfg.type": "GN",
            "pipeline.-1.keys.0": 7,
            "pipeline[0]": {"size": 2},
            "top": None,
            "model": {"neck": {"type": "FPN"}},
        }
    )
    backbone = {"type": "ResNet", "depth": 101, "out_indices": (0, 3), "norm_cfg": {"type": "GN"}, "new": {"a": 1}}
    assert cfg.to_dict() == {
        "model": {"backbone": backbone, "neck": {"type": "FPN"}},
        "pipeline": [{"type": "Load", "size": 2}, {"type": "Pack", "keys": [7]}],
        "top": None,
    }
    cfg.merge_from_dict({"model.neck": {"_delete_": True, "k": 1}, "model.backbone": 5, "pipeline": []})
    assert cfg.to_dict() == {"model": {"backbone": 5, "neck": {"k": 1}}, "pipeline": [], "top": None}


def test_keys_with_dots_and_numbers_are_reached() -> None:
    cfg = Config({"keys": {"a.b": {"lr": 1}}, "ids": {0: "x", "1": "y"}})
    cfg.merge_from_dict({"keys.'a.b'.lr": 2, "ids.0": "z", "ids.1": "w"})
    assert cfg == {"keys": {"a.b": {"lr": 2}}, "ids": {0: "z", "1": "w"}}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modl.depth", 1, "no key 'modl' at the top of the config; did you mean 'model'"),
        ("model.bakbone.depth", 1, "model: no key 'bakbone'; did you mean 'backbone'"),
        ("model.backbone.depth.x", 1, r"model\.backbone\.depth: has no 'x': it is 18 \(int\)"),
        ("pipeline.2", 1, r"pipeline: index 2 is out of range of its 2 elements; -2\.\.1 are allowed"),
        ("pipeline.-3.type", 1, "index -3 is out of range"),
        ("pipeline.type", 1, "pipeline: is a list: 'type' is no index into it"),
        ("pipeline", {"0": 1}, "a dict .* cannot be merged into .* or one element through an override"),
        ("", 1, "'' is not a dotted path"),
        ("model..depth", 1, "is not a dotted path"),
        (3, 1, r"must be a dotted path .*, got 3 \(int\)"),
        ("model._base_", "x.py", "'model._base_' cannot be set in a config that is loaded already"),
        ("_delete_", True, "say it of one key: key._delete_"),
        ("model._delete_", 1, "_delete_ must be True or False, got 1"),
    ],
)
def test_a_wrong_override_says_why_and_changes_nothing(key: Any, value: Any, message: str, cfg: Config) -> None:
    before = cfg.to_dict()
    with pytest.raises(ConfigError, match=message):
        cfg.merge_from_dict({"model.backbone.depth": 18, key: value})
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("'50'", "50"),
        ('"a b"', "a b"),
        ("a b", "a b"),
        ("None", None),
        ("null", None),
        ("True", True),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("(0, 1)", (0, 1)),
        ("0,1", (0, 1)),
        ("{'a': 1}", {"a": 1}),
        ("{a: 1}", {"a": 1}),
        ("dict(a=1, b=dict(c=None))", {"a": 1, "b": {"c": None}}),
        ("[a, b]", ["a", "b"]),
        ("[{type: A}, 2]", [{"type": "A"}, 2]),
        ("", ""),
        ("a=b", "a=b"),
        ("http://x:80/y?z=1", "http://x:80/y?z=1"),
        ("1-2", "1-2"),
        ("2024-01-01", "2024-01-01"),
        ("configs/a.py", "configs/a.py"),
        ("#fff", "#fff"),
        ("-.inf", float("-inf")),
        ("float('inf')", float("inf")),
        ("-5", -5),
        ("mmdet.ResNet", "mmdet.ResNet"),
        ("it's", "it's"),
        ("x: y", "x: y"),
        ("{}", {}),
        ("~", None),
        ("<<", "<<"),
        ("*", "*"),
    ],
)
def test_override_values_are_python_or_yaml_literals(text: str, value: Any) -> None:
    parsed = parse_override(f" a.0.b = {text}")
    assert parsed == ("a.0.b", value)
    assert type(parsed[1]) is type(value) or isinstance(value, dict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth", "is no override; write key=value"),
        ("=3", "is not a dotted path"),
        ("a=[1, 2", r"the value '\[1, 2' of 'a' cannot be read"),
        ("a='x", "a bracket or a quote is left open"),
        ("a=open('x')", r"open\(\) is not called"),
        ("a=range(10**12)", "cannot be read|range"),
        ("a=[" * 1 + "[" * 5000, "cannot be read"),
    ],
)
def test_unreadable_overrides_are_refused(text: str, message: str) -> None:
    if text == "a=range(10**12)":
        # Arithmetic is no literal, so that this is text.
        assert parse_override(text) == ("a", "range(10**12)")
        return
    with pytest.raises(ConfigError, match=message):
        parse_override(text)


def test_needs_no_torch() -> None:
    code = """
import sys, time
start = time.perf_counter()
from backbone_kit.config import Config
assert time.perf_counter() - start < 2
print(sorted({'torch', 'numpy', 'mmengine'} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
