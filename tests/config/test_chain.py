"""`_base_` chains: mixed formats, errors that name the way, merging, templates, bases in packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backbone_kit.config import Config
from backbone_kit.errors import ConfigError

from .files import load_with_mmengine, write


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_formats_mix_in_one_chain(tmp_path: Path) -> None:
    write(tmp_path, "a.json", '{"model": {"depth": 50, "out": [1, 2]}}')
    write(tmp_path, "deep/b.yaml", "_base_: ../a.json\nmodel: {style: caffe, lr: 1e-3}\nextra: 1\n")
    path = write(tmp_path, "c.py", "_base_ = ['./deep/b.yaml']\nmodel = dict(depth=101, out=(3,))\n")
    expected = {"model": {"depth": 101, "style": "caffe", "lr": 1e-3, "out": (3,)}, "extra": 1}
    assert Config.fromfile(path).to_dict() == expected
    assert Config({"_base_": "c.py", "extra": 2}).to_dict() == {**expected, "extra": 2}


def test_the_same_as_mmengine_across_formats(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "model: {backbone: {depth: 50, norm: {type: BN}}, neck: {out: 1}}\nn: 3\n")
    write(tmp_path, "b.json", '{"data": {"root": "x", "batch": 2}}')
    path = write(
        tmp_path,
        "c.py",
        """
        _base_ = ['a.yaml', 'b.json']
        model = dict(backbone=dict(norm=dict(_delete_=True, type='GN')), neck=[1])
        data = dict(batch={{_base_.n}}, root='{{ fileBasenameNoExtension }}/x')
        """,
    )
    assert Config.fromfile(path).to_dict() == load_with_mmengine(path)


def test_delete_is_stripped_everywhere(tmp_path: Path) -> None:
    text = "a = dict(_delete_=True, x=1, y=dict(_delete_=True, z=[dict(_delete_=True, w=1)]))"
    expected = {"a": {"x": 1, "y": {"z": [{"w": 1}]}}}
    write(tmp_path, "a.py", text)
    assert Config.fromfile("a.py").to_dict() == expected
    write(tmp_path, "b.py", "a = dict(old=1, y=3)")
    write(tmp_path, "c.py", f"_base_ = 'b.py'\n{text}")
    assert Config.fromfile("c.py").to_dict() == expected
    assert Config({"a": {"_delete_": True, "x": 1}}) == {"a": {"x": 1}}
    write(tmp_path, "d.yaml", "_base_: b.py\n_delete_: true\nonly: 1\n")
    assert Config.fromfile("d.yaml") == {"only": 1}
    write(tmp_path, "e.py", "_base_ = 'b.py'\n_delete_ = True\nonly = 1")
    assert Config.fromfile("e.py") == Config.fromfile("e.py", trusted=True) == {"only": 1}
    write(tmp_path, "f.yaml", "_base_: b.py\na: {_delete_: true, new: {{ fileBasename }}}\n")
    assert Config.fromfile("f.yaml") == {"a": {"new": "f.yaml"}}
    write(tmp_path, "g.py", "a = dict(_delete_='yes')")
    with pytest.raises(ConfigError, match=r"g\.py:1: _delete_ must be True or False, got 'yes'"):
        Config.fromfile("g.py")


def test_a_dict_over_none_is_allowed(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "head = None")
    write(tmp_path, "b.py", "_base_ = 'a.py'\nhead = dict(type='H')")
    assert Config.fromfile("b.py") == {"head": {"type": "H"}}


def test_a_dict_over_a_list_names_both_lines(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "x = 1\nmodel = dict(\n  neck=[1])")
    write(tmp_path, "b.yaml", "_base_: a.py\nmodel:\n  neck: {out: 1}\n")
    with pytest.raises(
        ConfigError, match=r"b\.yaml:3: model\.neck: .*\[1\] \(list, set by a\.py:3\); add _delete_=True"
    ):
        Config.fromfile("b.yaml")


def test_a_key_of_two_bases_names_both(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "x = 1\nlr = 1")
    write(tmp_path, "b.yaml", "lr: 2\n")
    write(tmp_path, "c.py", "_base_ = ['a.py', 'b.yaml']")
    with pytest.raises(
        ConfigError, match=r"c\.py:1: two bases set the key 'lr': a\.py:2 and b\.yaml:1; keep it in one"
    ):
        Config.fromfile("c.py")


def test_a_circle_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "\n_base_ = 'b.yaml'")
    write(tmp_path, "b.yaml", "x: 1\n_base_: [sub/../a.py]\n")
    with pytest.raises(ConfigError, match=r"goes in a circle: a\.py:2 -> b\.yaml:2 -> a\.py; remove one"):
        Config.fromfile("a.py")


def test_a_missing_base_names_the_inclusions_and_the_nearest_file(tmp_path: Path) -> None:
    write(tmp_path, "models/resnet50.py", "")
    write(tmp_path, "mid.py", "x = 1\n_base_ = 'models/resnet5.py'")
    write(tmp_path, "top.json", '{\n"_base_": ["mid.py"]}')
    with pytest.raises(ConfigError) as caught:
        Config.fromfile("top.json")
    assert str(caught.value).replace("\\", "/") == (
        "mid.py:2: models/resnet5.py does not exist; did you mean 'resnet50.py'? (included by top.json:2)"
    )
    with pytest.raises(ConfigError, match=r"nope\.py does not exist; check the path"):
        Config.fromfile("nope.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_base_ = 5", r"must be a path or a list of paths, got 5"),
        ("_base_ = 'a.toml'", r"a\.toml is no config file: the name must end in one of \.py"),
        ("_base_ = 'sub.py'", r"sub\.py is a directory"),
        ("_base_ = 'nopackage_x::a.py'", r"no package 'nopackage_x' is installed; pip install it"),
        ("_base_ = 'os.path::a.py'", r"'os\.path' is no name of a package"),
        ("_base_ = 'backbone_kit::no/such.py'", r"'backbone_kit' is installed, but has no"),
    ],
)
def test_bad_bases_are_refused_at_their_line(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "a.toml", "")
    (tmp_path / "sub.py").mkdir()
    write(tmp_path, "c.py", f"x = 1\n{text}")
    with pytest.raises(ConfigError, match=message) as caught:
        Config.fromfile("c.py")
    assert caught.value.problems[0].source == "c.py:2"


def test_packages_are_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "site/zoo_of_tests/__init__.py", "raise RuntimeError('imported')")
    base = "model = dict(type='M', part=dict(type='P'))\nx = dict(pipe=[dict(type='T')])"
    write(tmp_path, "site/zoo_of_tests/.mim/configs/a/b.py", base)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write(
        tmp_path, "c.py", "_base_ = 'zoo_of_tests::a/b.py'\nmodel = dict(part=dict(k=1))\nx = dict(y=dict(type='Own'))"
    )
    # As in MMEngine, the outermost dict with a type gets the scope, and what it holds does not.
    assert Config.fromfile("c.py").to_dict() == {
        "model": {"type": "M", "part": {"type": "P", "k": 1}, "_scope_": "zoo_of_tests"},
        "x": {"pipe": [{"type": "T", "_scope_": "zoo_of_tests"}], "y": {"type": "Own"}},
    }
    assert "zoo_of_tests" not in sys.modules


def test_templates_of_the_file(tmp_path: Path) -> None:
    expected = {"a": f"{tmp_path.as_posix()}/x", "b": "it.v2.py", "c": "it.v2", "d": ".py", "e": "r-it.v2"}
    values = ["'{{ fileDirname }}/x'", "{{fileBasename}}", "{{ fileBasenameNoExtension }}", "'{{fileExtname}}'"]
    text = "".join(f"{key} = {value}\n" for key, value in zip("abcd", values, strict=True))
    write(tmp_path, "it.v2.py", text + "e = f'{\"r\"}-{{fileBasenameNoExtension}}'  # {{ _base_.nope }}\n")
    assert Config.fromfile("it.v2.py").to_dict() == expected
    write(tmp_path, "y.yaml", "a: {{ fileBasename }}\nb: 'x/{{fileExtname}}'\nc: [{{fileBasename}}, 1]\n")
    assert Config.fromfile("y.yaml").to_dict() == {"a": "y.yaml", "b": "x/.yaml", "c": ["y.yaml", 1]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.py", "x = {{_base_.a.0.k}}\ny = '{{_base_.s}}/z'\nz = {{_base_.a}}"),
        ("c.yaml", "x: {{_base_.a.0.k}}\ny: '{{_base_.s}}/z'\nz: {{_base_.a}}"),
        ("c.json", '"x": {{_base_.a.0.k}}, "y": "{{_base_.s}}/z", "z": {{_base_.a}}'),
    ],
)
def test_templates_of_the_base(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a = [dict(k=1)]\ns = 'root'")
    base = {"c.py": "_base_ = 'b.py'\n", "c.yaml": "_base_: b.py\n", "c.json": '{"_base_": "b.py", '}[name]
    write(tmp_path, name, base + text + ("}" if name == "c.json" else "\n"))
    cfg = Config.fromfile(name)
    assert (cfg.x, cfg.y, cfg.z) == (1, "root/z", [{"k": 1}])
    assert cfg.z is not cfg.a
    assert cfg.z[0] is not cfg.a[0]


def test_a_template_that_fits_nothing_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "model = dict(depth=1)")
    write(tmp_path, "c.py", "_base_ = 'b.py'\nx = {{_base_.model.dpeth}}")
    with pytest.raises(ConfigError, match=r"c\.py:2: model: no key 'dpeth'; did you mean 'depth'"):
        Config.fromfile("c.py")


def test_templates_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BK_DEPTH", "101")
    monkeypatch.setenv("BK_ROOT", r"C:\new'x")
    monkeypatch.delenv("BK_NOT", raising=False)
    text = """
    a = {{'$BK_DEPTH:50'}}
    b = {{$BK_DEPTH:50}}
    c = '{{$BK_ROOT:/data}}/d'
    d = '{{$BK_NOT:a b}}'
    e = {{$BK_NOT:[1, 2]}}
    """
    write(tmp_path, "a.py", text)
    expected = {"a": 101, "b": 101, "c": r"C:\new'x/d", "d": "a b", "e": [1, 2]}
    assert Config.fromfile("a.py").to_dict() == expected
    write(tmp_path, "a.yaml", "a: {{$BK_DEPTH:50}}\nb: '{{$BK_DEPTH:50}}'\n")
    assert Config.fromfile("a.yaml").to_dict() == {"a": 101, "b": "101"}
    write(tmp_path, "b.py", "x = 1\ny = '{{$BK_NOT}}'")
    with pytest.raises(ConfigError, match=r"b\.py:2: the environment variable BK_NOT is not set; set it, or write"):
        Config.fromfile("b.py")


def test_deprecation_warns_and_is_no_key(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "_deprecation_ = dict(expected='b.py', reference='http://x')\ny = 1")
    with pytest.warns(FutureWarning, match=r"a\.py is deprecated; use b\.py \(see http://x\)"):
        cfg = Config.fromfile("a.py")
    assert cfg == {"y": 1}


def test_custom_imports_are_data(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "custom_imports = dict(imports=['no.such.module'], allow_failed_imports=False)")
    assert Config.fromfile("a.py").custom_imports.imports == ["no.such.module"]


def test_loads_share_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "n = dict(type='BN')\nx = [n, n]\ny = dict(n=n)")
    first, second = Config.fromfile("a.py"), Config.fromfile("a.py")
    first.n.type = "GN"
    first.x.append(1)
    assert second.to_dict() == {"n": {"type": "BN"}, "x": [{"type": "BN"}] * 2, "y": {"n": {"type": "BN"}}}
    assert first.y.n.type == first.x[0].type == "BN"
