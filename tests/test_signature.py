"""Arguments against signatures: which parameters count, and what every form of annotation accepts and says."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import numpy as np
import pytest
from torch import nn

from backbone_kit.registry import Registry
from backbone_kit.signature import check_arguments, check_value, parameters

THINGS = Registry("thing")


@THINGS.register_module()
class Thing:
    def __init__(self, size: int = 1) -> None:
        self.size = size


ThingCfg = Annotated[Mapping[str, Any], THINGS]


class Entry(TypedDict, total=False):
    cfg: ThingCfg
    stages: Sequence[bool]


class Strict(TypedDict):
    position: str


if sys.version_info >= (3, 11):
    from typing import NotRequired, Required

    class Marked(TypedDict):
        cfg: int
        position: NotRequired[str]

    class MarkedOtherwise(TypedDict, total=False):
        cfg: Required[int]
        position: str


class Base:
    def __init__(self, depth: int, *, width: int = 64) -> None:
        pass


class Middle(Base):
    def __init__(self, groups: int = 1, width: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Inherits(Middle):
    pass


class Leaf(Inherits):
    def __init__(self, *args: Any, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Closed(Base):
    def __init__(self, only: int = 1) -> None:
        super().__init__(only)


def told(problems) -> list[str]:
    return [str(problem) for problem in problems]


# Which parameters


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Base, ["depth", "width"]),
        (Middle, ["groups", "width", "depth"]),
        (Inherits, ["groups", "width", "depth"]),
        (Leaf, ["eps", "groups", "width", "depth"]),
        (Closed, ["only"]),
        (functools.partial(Base, width=3), ["depth", "width"]),
        (lambda a, b=1: None, ["a", "b"]),
        (object, []),
    ],
)
def test_parameters_follow_the_mro_as_long_as_kwargs_are_forwarded(target, names):
    assert list(parameters(target)) == names


def test_the_nearest_class_says_what_a_parameter_is():
    assert parameters(Leaf)["width"].annotation is float
    assert parameters(Base)["width"].annotation is int


def test_unknown_and_missing_arguments():
    assert told(check_arguments(Base, dict(dept=50))) == [
        "dept: Base has no argument 'dept'; did you mean 'depth'?",
        "'depth' is missing; Base needs it",
    ]
    assert told(check_arguments(Closed, dict(depth=50))) == ["depth: Closed has no argument 'depth'; it has: only"]
    assert told(check_arguments(object, dict(a=1))) == ["a: object has no argument 'a'; it has: none"]


def test_what_a_parent_requires_a_child_may_set_itself():
    assert told(check_arguments(Leaf, dict(dept=50))) == ["dept: Leaf has no argument 'dept'; did you mean 'depth'?"]
    assert check_arguments(Leaf, {}) == []


def test_supplied_arguments_are_not_missing():
    assert check_arguments(Base, {}, supplied=("depth",)) == []


def test_paths_stand_in_front():
    assert told(check_arguments(Base, dict(depth="x"), ("model", "backbone"))) == [
        "model.backbone.depth: must be an int, got 'x' (str)"
    ]


def test_a_function_with_kwargs_takes_any_name():
    def free(a: int, **kwargs: Any) -> None:
        pass

    assert told(check_arguments(free, dict(b=1))) == ["'a' is missing; free needs it"]


def test_what_cannot_be_inspected_takes_any_name():
    assert check_arguments(nn.Identity, dict(b=1)) == []
    assert check_arguments(type("Silent", (), {"__init__": max}), dict(b=1)) == []


def test_annotations_that_cannot_be_evaluated_accept_all():
    def odd(a: NotImported = 1) -> None:  # noqa: F821
        pass

    assert check_arguments(odd, dict(a="x")) == []


def test_a_default_is_always_accepted():
    def implicit(a: int = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
        pass

    assert check_arguments(implicit, dict(a=None)) == []


# Which values


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (Any, [1, "x", None]),
        (int, [0, -3, np.int64(3)]),
        (float, [0.5, 1, np.float32(0.5), float("inf")]),
        (bool, [True, False]),
        (str, ["", "x"]),
        (None, [None]),
        (int | None, [3, None]),
        (Optional[int], [3, None]),  # noqa: UP045
        (Union[int, str], [3, "x"]),  # noqa: UP007
        (Sequence[int], [[], [1], (1, 2)]),
        (tuple[int, ...], [(), (1, 2, 3), [1, 2]]),
        (tuple[int, int], [(1, 2), [1, 2]]),
        (list[int], [[1], (1,)]),
        (Sequence, [[1, "x"]]),
        (int | tuple[int, int], [3, (3, 3), [3, 3]]),
        (Literal["a", 1, None], ["a", 1, None]),
        (Mapping[str, Any], [{}, {"a": 1}]),
        (dict, [{}]),
        (Callable[..., int], [len, Thing]),
        (ThingCfg, [dict(type="Thing"), dict(type=Thing, size=2)]),
        (ThingCfg | None, [None, dict(type="Thing")]),
        (Sequence[ThingCfg], [[], [dict(type="Thing")]]),
        (Annotated[int, "a remark"], [3]),
        (Entry, [{}, dict(cfg=dict(type="Thing"), stages=(True, False))]),
        (Strict, [dict(position="x")]),
        (nn.Module, ["not known here: accepted"]),
    ],
)
def test_accepted(annotation, values):
    for value in values:
        assert check_value(value, annotation, ("key",)) == []


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "50", "key: must be an int, got '50' (str)"),
        (int, 1.0, "key: must be an int, got 1.0 (float)"),
        (int, True, "key: must be an int, got True (bool)"),
        (float, "1e-3", "key: must be a number, got '1e-3' (str)"),
        (float, False, "key: must be a number, got False (bool)"),
        (bool, 1, "key: must be True or False, got 1 (int)"),
        (bool, "true", "key: must be True or False, got 'true' (str)"),
        (str, 3, "key: must be a string, got 3 (int)"),
        (str, "x" * 200, None),
        (int, "x" * 200, f"key: must be an int, got '{'x' * 76}... (str)"),
        (int | None, "x", "key: must be an int or None, got 'x' (str)"),
        (Sequence[int], 3, "key: must be a list (an int each), got 3 (int)"),
        (Sequence[int], "12", "key: must be a list (an int each), got '12' (str)"),
        (Sequence[int], [1, "x"], "key[1]: must be an int, got 'x' (str)"),
        (tuple[int, int], (1, 2, 3), "key: must have 2 items, got (1, 2, 3) (tuple)"),
        (tuple[int, ...], (1, "x"), "key[1]: must be an int, got 'x' (str)"),
        (int | tuple[int, int], "x", "key: must be an int or a list (an int each), got 'x' (str)"),
        (int | tuple[int, int], (1, "x"), "key[1]: must be an int, got 'x' (str)"),
        (Literal["pytorch", "caffe"], "cafe", "key: must be 'pytorch' or 'caffe', got 'cafe'; did you mean 'caffe'?"),
        (Literal["pytorch", "caffe"], None, "key: must be 'pytorch' or 'caffe', got None"),
        (Literal[1, 2], True, "key: must be 1 or 2, got True"),
        (bool | Literal["auto"], "aut", "key: must be 'auto', got 'aut'; did you mean 'auto'?"),
        (bool | Literal["auto"], 3, "key: must be True or False or 'auto', got 3 (int)"),
        (Mapping[str, Any], [1], "key: must be a dict, got [1] (list)"),
        (Callable[..., int], 3, "key: must be a callable, got 3 (int)"),
        (ThingCfg, dict(type="Thin"), "key.type: unknown thing 'Thin'; did you mean 'Thing'?"),
        (ThingCfg, None, "key: must be a dict with 'type', got None (NoneType)"),
        (ThingCfg | None, dict(type="Thing", siz=2), "key.siz: Thing has no argument 'siz'; did you mean 'size'?"),
        (ThingCfg | None, 3, "key: must be a dict or None, got 3 (int)"),
        (Sequence[ThingCfg] | None, [dict(type="Thin")], "key[0].type: unknown thing 'Thin'; did you mean 'Thing'?"),
        (Entry, 3, "key: must be a dict with 'cfg', 'stages', got 3 (int)"),
        (Entry, dict(stage=[True]), "key.stage: unknown key 'stage'; did you mean 'stages'?"),
        (Entry, dict(xyzzy=1), "key.xyzzy: unknown key 'xyzzy'; allowed: 'cfg', 'stages'"),
        (Entry, dict(stages=[1]), "key.stages[0]: must be True or False, got 1 (int)"),
        (Entry, dict(cfg=dict(type="Thing", size="x")), "key.cfg.size: must be an int, got 'x' (str)"),
        (Strict, {}, "key: 'position' is missing; allowed: 'position'"),
        (Sequence[Entry], [{}, dict(cfg=3)], "key[1].cfg: must be a dict with 'type', got 3 (int)"),
    ],
)
def test_refused(annotation, value, message):
    assert told(check_value(value, annotation, ("key",))) == ([] if message is None else [message])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing has the markers since 3.11")
def test_required_and_not_required_keys():
    for entry in (Marked, MarkedOtherwise):
        assert check_value(dict(cfg=1), entry, ()) == []
        assert told(check_value(dict(position="x"), entry, ())) == ["'cfg' is missing; allowed: 'cfg', 'position'"]
        assert told(check_value(dict(cfg=1, position=2), entry, ())) == ["position: must be a string, got 2 (int)"]


def test_all_problems_of_a_value_are_found():
    problems = check_value([dict(cfg=dict(type="Thin")), dict(stage=1, stages="x")], Sequence[Entry], ("plugins",))
    assert [problem.path for problem in problems] == [
        ("plugins", 0, "cfg", "type"),
        ("plugins", 1, "stage"),
        ("plugins", 1, "stages"),
    ]
