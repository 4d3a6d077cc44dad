"""`.py` configs mean what Python means; the second source is Python itself, or MMEngine where `_base_` is involved."""

# ruff: noqa: E501  (tables: one snippet a line)
from __future__ import annotations

import math
import types
from pathlib import Path
from typing import Any

import pytest

from backbone_kit.config import Config
from backbone_kit.errors import ConfigError

from .files import load_with_mmengine, write

SNIPPETS = {
    "literals": "a = 1; b = 1e-3; c = 'x'; d = None; e = True; f = -2.5; g = 0x1f; h = 1_000; i = 'a' 'b'; j = not 1; k = ~5",
    "containers": "a = [1, [2, (3,)]]; b = (); c = {'x': 1, 2: [3]}; d = {1, 2}; e = dict(a=1); f = dict([('k', 2)], z=3)",
    "chained assignment": "a = b = [1]\na.append(2)",
    "names of names": "depth = 50\nmodel = dict(depth=depth, stages=[depth, depth])",
    "aliasing": "a = dict()\nb = dict(x=a)\na['k'] = 1\nc = [b, b]\nb['y'] = 2",
    "aliasing of lists": "a = [1]\nb = a\nb += [2]\nc = a\nc = c + [3]\nd = a\nd *= 2",
    "a tuple is made anew": "a = (1,)\nb = a\nb += (2,)",
    "star": "a = [1, 2]\nb = [0, *a, *range(2)]\nc = dict(x=1)\nd = dict(**c, y=2)\ne = {**c, 'x': 3, **d}\nf = dict(c, x=5)",
    "arithmetic": "a = 7 // 2; b = 7 / 2; c = 7 % 3; d = 2 ** 10; e = -7 // 2; f = 1e-4 * 3; g = 2 ** -1; h = 7 | 8; i = 6 & 3",
    "sequences": "a = [1] * 3 + [2]; b = (1, 2) + (3,); c = 'ab' * 2; d = 2 * [0]",
    "comparison": "a = 1 < 2 < 3; b = 1 == 1.0; c = 'a' in 'abc'; d = 3 not in [1, 2]; e = None is None; f = 1 < 3 < 2",
    "conditional": "n = 3\na = 'big' if n > 2 else 'small'\nb = n and 5\nc = 0 or 'x'\nd = [] or None",
    "f-strings": "n = 50; r = 0.125\na = f'r{n}'; b = f'{r:.2f}|{n!r:>5}|{n:05d}'; c = f'{n}{{x}}'; w = 8; d = f'{n:{w}}'",
    "percent": "a = 'r%d_%s' % (50, 'x'); b = '%.3f' % 0.5; c = '%(k)s' % dict(k=1); d = '%5s%%' % 'a'; e = '%s' % [1]",
    "format": "a = '{}-{}'.format(1, 'b'); b = '{0}{0}{x}'.format(1, x=2); c = '{:>4}'.format(7); d = '{0[k]}'.format(dict(k=3))",
    "indexing": "a = [1, 2, 3]; b = a[0]; c = a[-1]; d = a[::-1]; e = a[1:]; f = 'abc'[1]; g = dict(k=dict(z=1))['k']['z']",
    "slice assignment": "a = [1, 2, 3, 4]\na[1:3] = [9]\ndel a[0]",
    "comprehensions": "a = [i * 2 for i in range(4) if i % 2]; b = {i: str(i) for i in (1, 2)}; c = {i for i in [1, 1]}\n"
    "d = [(i, j) for i in range(3) for j in range(i)]; e = sum(i for i in [1, 2]); f = [[k for k in range(n)] for n in (1, 2)]",
    "loop variables stay inside": "i = 'mine'\na = [i for i in range(3)]",
    "comprehension over its own name": "x = [1, 2]\nx = [x for x in x]",
    "unpacking": "a, b = 1, 2\n(c, [d, *e]) = 3, [4, 5, 6]\n*f, g = 'xyz'\nh = {}\nh['k'], i = 1, 2",
    "functions": "a = len([1, 2]); b = list(range(1, 9, 3)); c = list(enumerate('ab', 1)); d = list(zip([1, 2], 'ab')); e = sum([1, 2], 3)\n"
    "f = min(3, 1); g = max([2, 5]); h = round(2.567, 1); i = int('7') + int(3.9); j = float('2'); k = str(1.5); l = bool([])\n"
    "m = abs(-3); n = sorted([3, 1], reverse=True); o = tuple([1]); p = set('aa'); q = dict(zip('ab', (1, 2))); r = round(2.5)\n"
    "s = int('ff', 16); t = sum([[1], [2]], []); u = list(dict(a=1)); v = float('inf'); w = list(zip()); x = max('b', 'a')",
    "copies": "import copy\nfrom copy import deepcopy as dc\na = dict(x=[1])\nb = copy.copy(a)\nc = copy.deepcopy(a)\nd = dc(a)\n"
    "a['x'].append(2)\na['y'] = 3",
    "dict methods": "a = dict(x=1, y=dict(z=1))\na.update(y=dict(w=2))\na.update({'k': 1}, m=2)\nb = a.pop('x')\nc = a.pop('no', 5)\n"
    "d = a.get('k'); e = a.get('no', 7); f = list(a.keys()); g = list(a.values()); h = [k for k, v in a.items()]; i = a.copy()\na['q'] = 1",
    "list methods": "a = [1]\na.append(2)\na.extend((3, 4))\na.insert(0, 0)\nb = a.pop()\nc = a.pop(0)\nd = a.copy()\na.append(9)",
    "live views": "a = dict(x=1)\nk = a.keys()\na['y'] = 2\nb = list(k)\ndel k",
    "iterators are read once": "z = zip([1, 2], [3, 4])\na = list(z)\nb = list(z)\ndel z",
    "augmented assignment": "a = 2\na *= 3\na += 1\na -= 2\na **= 2\nb = dict(lr=0.1)\nb['lr'] *= 10\nc = [1]\nc[0] += 5\nd = dict(x=1)\nd |= dict(y=2)",
    "del": "a = 1\nb = dict(x=1, y=2)\ndel b['x'], a\nc = [1, 2, 3]\ndel c[1:]",
    "functions, classes of the standard library and docstrings are skipped": "'''doc'''\nimport os.path as osp\nimport json\n"
    "def f(x):\n    return open(x)\n\nasync def g():\n    pass\n\nif __name__ == '__main__':\n    f('x')\na = 1",
    "double underscores are the file's own": "__x = 2\n__all__ = ['a']\na = __x",
    "annotations": "a: int = 3\nb: str",
    "shadowing a function": "sum = 3\na = sum + 1\ndel sum",
    "unicode": "a = 'é'; b = '\\u00e9\\x41'; c = r'\\d'; naïve = 1",
}


def run_python(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "config"}
    exec(text, names)
    skipped = (types.ModuleType, types.FunctionType)
    return {k: v for k, v in names.items() if not k.startswith("__") and not isinstance(v, skipped)}


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_evaluates_as_python_does(text: str, tmp_path: Path) -> None:
    ours = Config.fromfile(write(tmp_path, "a.py", text)).to_dict()
    theirs = run_python(text)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_trusted_gives_the_same(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", text)
    assert repr(Config.fromfile(path, trusted=True).to_dict()) == repr(Config.fromfile(path).to_dict())


BASE = """
    depth = 50
    norm = dict(type='BN', requires_grad=True)
    model = dict(backbone=dict(type='ResNet', depth=depth, norm_cfg=norm), neck=dict(type='FPN', out=[1, 2]), mean=[1., 2.])
    pipeline = [dict(type='Load'), dict(type='Resize', scale=(1333, 800))]
    optim = dict(type='SGD', lr=0.02, groups=dict(bias=dict(decay=0.)))
"""
CHILDREN = {
    "merge": "model = dict(backbone=dict(depth=101, extra=1), head=dict(type='H'))",
    "replace a list": "pipeline = [dict(type='Only')]\nmodel = dict(neck=dict(out=(3,)))",
    "delete": "model = dict(backbone=dict(_delete_=True, type='VGG'))",
    "delete in a file with a template": "a = {{_base_.depth}}\nmodel = dict(neck=dict(_delete_=True, type='X'))",
    "delete with siblings": "model = dict(neck=dict(_delete_=True, type='PAFPN', inner=dict(a=1)), backbone=dict(depth=18))",
    "do not delete": "optim = dict(_delete_=False, lr=1.)",
    "replace a dict by None": "model = dict(neck=None)",
    "template": "a = {{_base_.model.neck}}\nb = [{{_base_.depth}}, {{ _base_.model.backbone.type }}]\nc = dict(p={{_base_.pipeline}})",
    "read the base": "a = _base_.model.backbone.depth\nb = _base_['optim']['lr'] * 2\nc = _base_.pipeline[1]['scale']",
    "reverse the base's list": "data = dict(mean=_base_.model['mean'][::-1])",
    "assign to the base": "_base_.model.backbone.depth = 34\n_base_.optim.lr *= 0.1\n_base_['depth'] = 34\n_base_.model.new = dict(x=1)",
    "update the base": "_base_.model.backbone.update(dict(depth=18, norm_cfg=dict(type='GN')))\n_base_.optim.update(lr=3, type='Adam')",
    "own dicts update at the top only": "d = dict(a=dict(x=1))\nd.update(a=dict(y=2))",
    "delete from the base": "del _base_.model.neck\ndel _base_['optim']['lr']\nx = _base_.pop('depth')",
    "append to the base's list": "_base_.pipeline.append(dict(type='Pack'))\n_base_.pipeline[0]['k'] = 1\ndel _base_.pipeline[1]",
    "insert and extend": "_base_.pipeline.insert(1, dict(type='Flip'))\n_base_.pipeline.extend([1, 2])",
    "use what was changed": "_base_.pipeline[1].scale = (1, 2)\ntest = dict(pipeline=_base_.pipeline)",
    "the base's value, then changed": "model = _base_.model\nmodel.backbone.depth = 9",
    "two names for one base value": "_base_.other = _base_.model\nother = dict(backbone=dict(depth=1))",
    "assigning copies": "d = dict(a=1)\n_base_.d = d\nd['a'] = 2",
    "comprehension over the base": "x = [t['type'] for t in _base_.pipeline]\ny = {k: v for k, v in _base_.optim.items() if k != 'groups'}",
    "star": "y = dict(**_base_.optim, z=1)\nw = [*_base_.pipeline, 3]",
    "copy of the base": "import copy\nx = copy.deepcopy(_base_.model)\nx.backbone.depth = 3\n_base_.model.mean.append(3.)",
}


@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_inherits_as_mmengine_does(child: str, tmp_path: Path) -> None:
    write(tmp_path, "bases/a.py", BASE)
    path = write(tmp_path, "child.py", f"_base_ = ['bases/a.py']\n{child}\n")
    expected = load_with_mmengine(path)
    assert Config.fromfile(path).to_dict() == expected
    assert Config.fromfile(path, trusted=True).to_dict() == expected


REFUSED = {
    "x = 1\ny = open('f')": (2, r"open\(\) is not called.*trusted=True"),
    "import os\nx = os.getcwd()": (2, r"os\.getcwd\(\) is not called: it is only an imported name"),
    "from torch.nn import ReLU\nx = dict(\n  type=ReLU)": (
        3,
        "'ReLU' has no value.*write a registered name as a string, 'ReLU'",
    ),
    "def f(): return 1\nx = f()": (2, "a function of the file, which is skipped"),
    "x = lambda: 1": (1, "Lambda is not evaluated"),
    "for i in [1]:\n  x = i": (1, "for is not evaluated in a config; write a comprehension"),
    "while True: pass": (1, "while is not evaluated"),
    "if True:\n  x = 1": (1, "write a conditional expression"),
    "class A: pass": (1, "put the class into a module, and list that in custom_imports"),
    "from .x import *": (1, "brings in no names.*_base_ = "),
    "with read_base():\n  from ..models.r50 import *": (1, r"lazy style.*write _base_ = \['\.\./models/r50\.py'\]"),
    "x = ''.__class__": (1, "has no attribute '__class__'"),
    "x = '{0.__class__}'.format(1)": (1, "reads an attribute"),
    "x = 'a'.upper()": (1, r"upper\(\) of a str is not called"),
    "depth = 1\nx = dpeth": (2, "the name 'dpeth' has no value here; did you mean 'depth'"),
    "d = dict(depth=1)\nx = d['dpeth']": (2, "no key 'dpeth'; did you mean 'depth'"),
    "x = [1,\n 2][7]": (1, "IndexError"),
    "x = 1 / 0": (1, "ZeroDivisionError"),
    "x = 1 + 'a'": (1, "TypeError"),
    "a, b = 1, 2, 3": (1, "3 values cannot be unpacked into 2"),
    "a = dict(x=1)\nb = dict(**a, x=2)": (2, "the keyword 'x' is given twice"),
    "x = dict(y=zip([1], [2]))": (1, "a zip is no config data"),
    "x = len(1, 2)": (1, r"len\(\) does not take these arguments"),
    "x = dict(a=1, a=2)": (1, "the keyword 'a' is given twice"),
    "*a, *b = [1, 2]": (1, "only one name can take the rest"),
    "x = b'a'": (1, "no config data"),
    "x = 1 @ 2": (1, "MatMult is not evaluated"),
    "x = (": (1, "is no Python"),
    "_base_ = []\n_base_ = []": (2, "said once"),
    "nope = 'x.py'\n_base_ = [nope]": (
        2,
        "'nope' has no value: _base_ is read before the rest of the file; write it out",
    ),
    "x = _base_.model": (1, "no key 'model'"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses_with_file_and_line(text: str, tmp_path: Path) -> None:
    line, message = REFUSED[text]
    path = write(tmp_path, "a.py", text)
    with pytest.raises(ConfigError, match=message) as caught:
        Config.fromfile(path)
    assert caught.value.problems[0].source.endswith(f"a.py:{line}")


def test_nothing_is_executed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", f"def f():\n    pass\nx = [i for i in open({str(tmp_path / 'made')!r}, 'w')]")
    with pytest.raises(ConfigError):
        Config.fromfile(path)
    assert not (tmp_path / "made").exists()


def test_trusted_executes(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "depth = 50")
    text = "import os\n_base_ = 'b.py'\nx = []\nfor i in range(2):\n    x.append(dict(i=i))\n_base_.depth += len(os.sep)\nf = len"
    cfg = Config.fromfile(write(tmp_path, "a.py", text), trusted=True)
    assert cfg.to_dict() == {"depth": 51, "x": [{"i": 0}, {"i": 1}], "i": 1}
    assert cfg.x[0].source_of("i").endswith("a.py:3")


def test_trusted_errors_name_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.py", "x = 1\ndef f():\n    raise KeyError('k')\nf()")
    with pytest.raises(ConfigError, match=r"a\.py:3: raised KeyError: 'k'"):
        Config.fromfile(path, trusted=True)
    path = write(tmp_path, "b.py", "with read_base():\n  from .x import *")
    with pytest.raises(ConfigError, match="not with trusted=True either"):
        Config.fromfile(path, trusted=True)


def test_nan_and_inf_come_out_of_float(tmp_path: Path) -> None:
    cfg = Config.fromfile(write(tmp_path, "a.py", "a = float('nan')\nb = -float('inf')"))
    assert math.isnan(cfg.a)
    assert cfg.b == -math.inf
