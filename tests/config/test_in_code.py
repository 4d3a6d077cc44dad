"""A config that Python code changes: what it is blamed for, what it keeps, what it is refused."""

from __future__ import annotations

import copy
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbone_kit.config import Config, ConfigDict
from backbone_kit.errors import ConfigError
from backbone_kit.registry import Registry

from .files import load_with_mmengine, write

CODE = "set in code"


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.yaml", "type: Net\ndepth: 50\nnorm_cfg: {type: BN}\nhead:\n  out: 1\n")
    return Config.fromfile("a.yaml")


@pytest.mark.parametrize(
    "change",
    [
        lambda cfg: cfg.__setitem__("depth", "x"),
        lambda cfg: setattr(cfg, "depth", "x"),
        lambda cfg: cfg.update(depth="x"),
        lambda cfg: cfg.update([("depth", "x")]),
        lambda cfg: cfg.__ior__({"depth": "x"}),
        lambda cfg: (cfg.pop("depth"), cfg.setdefault("depth", "x")),
        lambda cfg: (cfg.__delitem__("depth"), cfg.__setitem__("depth", "x")),
        lambda cfg: (cfg.__setitem__("last", 1), cfg.popitem(), cfg.__setitem__("depth", "x")),
    ],
)
def test_a_key_that_code_set_is_not_blamed_on_a_file(change: Any, cfg: Config) -> None:
    nets = Registry("net")

    @nets.register_module()
    class Net:
        def __init__(self, depth: int, norm_cfg: Any, head: Any) -> None:
            pass

    change(cfg)
    assert cfg.source_of("depth") == CODE
    assert f"  {CODE}" in cfg.explain("depth")
    assert cfg.source_of("type") == "a.yaml:1"
    with pytest.raises(ConfigError, match=f"^{CODE}: depth: must be an int"):
        nets.build(cfg)


def test_the_only_key_of_a_mapping_is_set_in_code_too(cfg: Config) -> None:
    cfg.norm_cfg.type = "BM"
    for _ in range(3):
        cfg.head.out += 1
    cfg.new = {"k": 1}
    assert cfg.norm_cfg.source_of("type") == cfg.head.source_of("out") == cfg.source_of("new") == CODE
    assert cfg.explain("norm_cfg.type") == f"norm_cfg.type = 'BM'\n  {CODE}\n  replaced 'BN', set by a.yaml:3"
    assert cfg.explain("head.out") == f"head.out = 4\n  {CODE}\n  replaced 1, set by a.yaml:5"
    assert copy.deepcopy(cfg).norm_cfg.source_of("type") == CODE


def test_overrides_without_a_source_are_merge_from_dicts(cfg: Config) -> None:
    cfg.merge_from_dict({"depth": 18, "norm_cfg": {"type": "GN"}})
    assert cfg.source_of("depth") == cfg.norm_cfg.source_of("type") == "merge_from_dict"
    assert cfg.explain("depth") == "depth = 18\n  set by merge_from_dict\n  replaced 50, set by a.yaml:2"


def test_a_mapping_over_files_names_both(cfg: Config) -> None:
    over = Config({"_base_": "a.yaml", "depth": 18, "own": 1})
    assert (over.source_of("depth"), over.source_of("own"), over.source_of("type")) == (CODE, CODE, "a.yaml:1")
    assert over.explain("depth") == f"depth = 18\n  {CODE}\n  replaced 50, set by a.yaml:2"


def test_a_config_that_is_all_code_has_no_sources() -> None:
    cfg = Config({"depth": 50, "norm_cfg": {"type": "BN"}})
    cfg.depth = "x"
    cfg.norm_cfg.type = "GN"
    assert cfg.source_of("depth") == cfg.norm_cfg.source_of("type") == cfg.source_of("nope") == ""
    cfg.merge_from_dict({"norm_cfg.groups": 2, "depth": 18}, source="--cfg-options")
    assert cfg.norm_cfg.source_of("type") == CODE
    assert cfg.explain("depth") == f"depth = 18\n  set by --cfg-options\n  replaced 'x', {CODE}"


@pytest.mark.parametrize(
    "remove",
    [
        lambda cfg: cfg.__delitem__("head"),
        lambda cfg: delattr(cfg, "head"),
        lambda cfg: cfg.pop("head"),
        lambda cfg: cfg.popitem(),
        lambda cfg: cfg.clear(),
    ],
)
def test_what_is_removed_has_no_source(remove: Any, cfg: Config) -> None:
    remove(cfg)
    assert "head" not in cfg
    assert cfg.source_of("head") == ""
    cfg.merge_from_dict({"head": 1}, source="here")
    assert cfg.explain("head") == "head = 1\n  set by here"


def test_pop_and_popitem_are_dicts(cfg: Config) -> None:
    assert (cfg.pop("depth"), cfg.pop("depth", 3), cfg.popitem()) == (50, 3, ("head", {"out": 1}))
    for wrong in (lambda: cfg.pop("depth"), lambda: ConfigDict().popitem()):
        with pytest.raises(KeyError):
            wrong()


def test_what_is_stored_is_what_comes_back(cfg: Config) -> None:
    cfg.setdefault("q", {}).update(x=1)
    cfg.setdefault("q", {"y": 2})["z"] = 3
    assert cfg.q == {"x": 1, "z": 3}
    assert cfg.setdefault("none") is None
    assert cfg.setdefault("depth", 1) == 50
    given = {"inner": {"k": 1}}
    cfg.update(given)
    cfg |= {"inner": {"l": 2}}
    assert type(cfg.inner) is ConfigDict
    assert given == {"inner": {"k": 1}}
    twin = cfg.copy()
    twin.inner.k = twin.depth = 9
    assert (cfg.inner, cfg.depth) == ({"k": 9, "l": 2}, 50)
    made = Config.fromkeys(["a", "b"], {})
    made.a.x = 1
    assert (type(made), made) == (Config, {"a": {"x": 1}, "b": {}})


def test_delete_beside_a_key_is_delete_inside_of_it(tmp_path: Path, cfg: Config) -> None:
    mmengine = pytest.importorskip("mmengine.config")
    write(tmp_path, "a.py", "norm_cfg = dict(type='BN', eps=1)\nn = 1")
    for options in (
        {"norm_cfg._delete_": True},
        {"norm_cfg._delete_": True, "norm_cfg.type": "GN"},
        {"norm_cfg.type": "GN", "norm_cfg._delete_": True},
        {"norm_cfg.type": "GN", "norm_cfg._delete_": False},
        {"norm_cfg": {"_delete_": True, "groups": 2}, "n": 2},
    ):
        ours, theirs = Config.fromfile("a.py"), mmengine.Config(load_with_mmengine(tmp_path / "a.py"))
        ours.merge_from_dict(options)
        theirs.merge_from_dict(copy.deepcopy(options))
        expected = theirs._cfg_dict.to_dict()
        expected["norm_cfg"].pop("_delete_", None)  # MMEngine leaves a False behind
        assert ours == expected, options


def test_delete_and_base_never_become_keys(cfg: Config) -> None:
    cfg.update(norm_cfg={"_delete_": True, "kind": 1})
    cfg.head.update(_delete_=True, size=2)
    cfg.neck = {"_delete_": True, "k": 1}
    assert (cfg.norm_cfg, cfg.head, cfg.neck) == ({"kind": 1}, {"size": 2}, {"k": 1})
    assert cfg | {"head": {"_delete_": True}} == {**cfg, "head": {}}
    assert ConfigDict(_delete_=True, type="GN") == {"type": "GN"}
    for key, cure in (("_delete_", "assigning a dict replaces"), ("_base_", "a Config is made from")):
        for change in (cfg.__setitem__, cfg.__setattr__, cfg.setdefault):
            with pytest.raises(ConfigError, match=f"{key} cannot be set as a key; .*{cure}"):
                change(key, True)
        assert key not in cfg


@pytest.mark.parametrize("bad", [None, 5, [], "a=1"])
def test_what_is_no_mapping_of_overrides_or_no_key_is_refused(bad: Any, cfg: Config) -> None:
    with pytest.raises(ConfigError, match=r"overrides must be a mapping of dotted keys, got "):
        cfg.merge_from_dict(bad)
    if not isinstance(bad, str):
        with pytest.raises(ConfigError, match="a key must be a dotted path"):
            cfg.explain(bad)
        with pytest.raises(ConfigError, match="a config is dumped to a path, got"):
            cfg.dump(bad)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".py"])
def test_dump_says_why_it_cannot_write(suffix: str, cfg: Config, tmp_path: Path) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    write(tmp_path, "file", "")
    for name, reason in {
        f"nope/x{suffix}": "No such file or directory",
        f"folder{suffix}": "Is a directory",
        f"file/x{suffix}": "Not a directory",
        f"a\0b{suffix}": "null byte",
    }.items():
        with pytest.raises(ConfigError, match=f"cannot be written: .*{reason}"):
            cfg.dump(name)
    assert sorted(os.listdir()) == ["a.yaml", "file", f"folder{suffix}"]


def test_dump_replaces_a_file_whole_or_not_at_all(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "real.json", "{}").chmod(0o640)
    (tmp_path / "link.json").symlink_to("real.json")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(ConfigError, match=r"'link\.json' cannot be written: No space left on device"):
            cfg.dump("link.json")
    assert (tmp_path / "real.json").read_text() == "{}"
    cfg.dump("link.json")
    assert Config.fromfile("real.json") == cfg
    assert (tmp_path / "link.json").is_symlink()
    assert stat.S_IMODE(os.stat("real.json").st_mode) == 0o640
    assert sorted(os.listdir()) == ["a.yaml", "link.json", "real.json"]


def test_a_read_only_file_is_not_replaced(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ConfigError, match=r"'a\.yaml' cannot be written: Permission denied"):
        cfg.dump("a.yaml")


NUMBERS = [
    (np.int64(3), 3),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
]


@pytest.mark.parametrize(("given", "expected"), [*NUMBERS, (np.array(3), 3)])
def test_numpys_scalars_are_pythons(given: Any, expected: Any, tmp_path: Path) -> None:
    cfg = Config({"a": given, "b": [given, (given,)]})
    cfg.c = given
    cfg.merge_from_dict({"d": given})
    for value in (cfg.a, cfg.b[0], cfg.b[1][0], cfg.c, cfg.d):
        assert (type(value), value) == (type(expected), expected)
    if isinstance(given, np.generic):
        assert all(type(item) is type(expected) for item in Config({"a": {given}}).a)
    for suffix in (".yaml", ".json", ".py"):
        cfg.dump(tmp_path / f"a{suffix}")
        assert Config.fromfile(tmp_path / f"a{suffix}") == cfg


def test_numpys_arrays_are_kept_and_no_file_holds_them(tmp_path: Path) -> None:
    cfg = Config({"mean": np.arange(3)})
    assert isinstance(cfg.mean, np.ndarray)
    for suffix in (".yaml", ".json", ".py"):
        with pytest.raises(ConfigError, match=r"\(ndarray\) cannot be written to a file; write its \.tolist\(\)"):
            cfg.dump(tmp_path / f"a{suffix}")
    assert os.listdir(tmp_path) == []
