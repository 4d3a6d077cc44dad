"""A pickle is read as data: what it names is not called, and what it says is not believed."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone_kit.checkpoint.known import Damaged, Inert, NumpyArray
from backbone_kit.checkpoint.unpickle import _HANDLERS, Unpickler

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes) -> Any:
    return Unpickler(data).load()


def inert(data: bytes) -> list[str]:
    unpickler = Unpickler(data)
    unpickler.load()
    return list(unpickler.inert)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        [None, True, False, 0, 255, 65535, -1, 2**31, -(2**70), 1.5, float("inf"), 3 + 4j],
        ["", "é\n\\x", "x" * 300, "\U0001f600", b"", b"\xff\n", bytes(300), bytearray(b"ab")],
        [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {}, {"a": {"b": [1]}}, {(1, "a"): 2}, set(), {1, "b"}],
        [frozenset([1, 2]), collections.OrderedDict(a=1, b=2), collections.Counter("aab")],
    ],
    ids=["numbers", "texts", "containers", "subclasses"],
)
def test_plain_data_is_what_pickle_reads(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i8", "u1", "?", "u2", "c8"])
def test_arrays_are_what_pickle_reads(dtype: str, protocol: int) -> None:
    cube = (np.arange(24).reshape(2, 3, 4) * 0.5).astype(dtype)
    for array in (cube, cube[:, ::2], cube.transpose(1, 0, 2), np.asfortranarray(cube), cube[:0]):
        (found,) = read(pickle.dumps([array], protocol))
        assert isinstance(found, NumpyArray)
        np.testing.assert_array_equal(found.tensor().numpy(), array)
        assert found.tensor() is found.tensor()
    assert read(pickle.dumps(np.float32(1.5), protocol)) == 1.5


def test_a_defaultdict_is_a_dict() -> None:
    assert read(pickle.dumps(collections.defaultdict(list, a=[1]))) == {"a": [1]}
    assert inert(pickle.dumps(collections.defaultdict(int, a=1))) == []


def test_shared_and_recursive_values_stay_so() -> None:
    shared: list[Any] = [1]
    shared.append(shared)
    first, second = read(pickle.dumps([shared, shared]))
    assert first is second
    assert first[1] is first


class Reduced:
    """Pickles as a call of whatever it is given."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


class WithState:
    def __init__(self) -> None:
        self.secret = [1, 2]

    def __setstate__(self, state: Any) -> None:
        os.mkdir("state-was-set")


ATTACKS = {
    "os.mkdir": pickle.dumps(Reduced(os.mkdir, ("was-executed",)), 2),
    "eval": pickle.dumps(Reduced(eval, ("__import__('os').mkdir('was-executed')",)), 4),
    "exec": b"cbuiltins\nexec\n(Vimport os; os.mkdir('was-executed')\ntR.",
    "getattr": pickle.dumps(Reduced(getattr, ("a", "upper")), 2),
    "called getattr": b"cbuiltins\ngetattr\n(cposix\nsystem\nV__call__\ntR(Vmkdir was-executed\ntR.",
    "inst": b"(S'mkdir was-executed'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'mkdir was-executed'\no.",
    "newobj": b"\x80\x02cposix\nsystem\nX\x12\x00\x00\x00mkdir was-executed\x85\x81.",
    "newobj_ex": b"\x80\x04cposix\nsystem\n(X\x12\x00\x00\x00mkdir was-executedt}\x92.",
    "dotted": b"\x80\x04\x8c\x0fbackbone_kit.io\x8c\x09os.system\x93\x8c\x12mkdir was-executed\x85R.",
    "state": pickle.dumps(WithState(), 2),
    "called twice": b"cposix\nsystem\n(Vmkdir was-executed\ntR(Vmkdir was-executed\ntR.",
    "persistent id": b"Pmkdir was-executed\n.",
    "binary persistent id": b"cposix\nsystem\n(Vmkdir was-executed\ntRQ.",
    "extension": b"\x80\x02\x82\x01(Vmkdir was-executed\ntR.",
    "items of an object": b"cposix\nsystem\n)R(Va\nI1\nu.",
    "appended to an object": b"cposix\nsystem\n)R(I1\nI2\ne.",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_is_ever_called(attack: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", None)
    found = read(attack)
    assert isinstance(found, Inert)
    assert inert(attack)
    assert list(tmp_path.iterdir()) == []


def test_the_attacks_would_do_harm_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("os.mkdir", "eval", "exec", "called getattr", "inst", "obj"):
        pickle.loads(ATTACKS[name])
        (tmp_path / "was-executed").rmdir()


@pytest.mark.parametrize(
    "name", ["torch._utils _rebuild_tensor_v2", "collections OrderedDict", "numpy dtype", "torch FloatStorage"]
)
def test_what_is_known_takes_no_state(name: str) -> None:
    """BUILD sets attributes: of a function of ours it would change what every later load does."""
    data = b"c" + name.replace(" ", "\n").encode() + b"\n}(V__defaults__\nNV__call__\nNub."
    before = Unpickler(b"c" + name.replace(" ", "\n").encode() + b"\n.").load()
    attributes = dict(vars(before))
    assert read(data) is before
    assert vars(before) == attributes


def test_the_state_of_a_dict_hides_none_of_its_methods() -> None:
    found = read(b"ccollections\nOrderedDict\n)R(Va\nI1\nu}(Vitems\nNub.")
    assert list(found.items()) == [("a", 1)]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Path("a"), "pathlib.PosixPath"),
        (np.random.default_rng(0), "numpy.random._pickle.__generator_ctor"),
        (len, "builtins.len"),
    ],
)
def test_objects_are_named_and_stay_where_they_were(value: Any, name: str) -> None:
    content = io.BytesIO()
    pickle.dump({"a": value, "b": 1}, content)
    found = read(content.getvalue())
    assert isinstance(found["a"], Inert)
    assert (found["a"].name, found["b"]) == (name, 1)
    assert name in inert(content.getvalue())


def test_arrays_of_objects_are_inert() -> None:
    found = read(pickle.dumps(np.array([{"a": 1}, None], dtype=object), 2))
    assert isinstance(found.tensor(), Inert)


@pytest.mark.parametrize(
    "bomb",
    [
        b"cos\nsystem\nI1\n" + b"2\x86" * 60 + b"I1\ns.",
        b"}I1\n" + b"2\x86" * 60 + b"I1\ns.",
        b"(I1\n" + b"2\x86" * 60 + b"\x91.",
        b"\x8f(I1\n" + b"2\x86" * 60 + b"\x90.",
        b"ccollections\nCounter\n(}I1\n" + b"2\x86" * 60 + b"I1\nstR.",
    ],
    ids=["key of an object", "key", "frozenset", "set", "counter"],
)
def test_keys_that_take_for_ever_to_hash_are_left_out(bomb: bytes) -> None:
    read(bomb)


@pytest.mark.parametrize(
    "name", ["torch device", "numpy dtype", "numpy ndarray", "builtins complex", "torch Size", "_codecs encode"]
)
def test_nothing_prints_or_walks_what_takes_for_ever(name: str) -> None:
    """2**60 values are one value, in a pair, in a pair, and so on; printing them would never end."""
    bomb = b"c" + name.replace(" ", "\n").encode() + b"\n(I1\n" + b"2\x86" * 60 + b"tR."
    assert not isinstance(read(bomb), str)


def test_a_tensors_rebuilding_calls_nothing_else() -> None:
    head = b"ctorch._tensor\n_rebuild_from_type_v2\n(c_codecs\nencode\nN(Va\nVlatin1\nttR."
    assert isinstance(read(head), Inert)


def test_many_lists_in_each_other_are_read_and_freed() -> None:
    depth = 10**5
    found = read(b"]" * depth + b"a" * (depth - 1) + b".")
    assert len(found) == 1
    del found


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x96" + struct.pack("<Q", 2**62),
        b"\x8e" + struct.pack("<Q", 2**62),
        b"\x8d" + struct.pack("<Q", 2**40),
        b"T" + struct.pack("<i", -5),
        b"B\xff\xff\xff\xff",
        b"\x95" + struct.pack("<Q", 2**62) + b"N",
    ],
)
def test_sizes_that_are_not_there_are_refused_before_memory_is(bomb: bytes) -> None:
    with pytest.raises(Damaged, match="cut short"):
        read(bomb)


def test_a_memo_of_any_index_is_small() -> None:
    assert read(b"I7\nr\xff\xff\xff\xffj\xff\xff\xff\xff.") == 7


def test_copies_of_one_long_value_are_counted() -> None:
    text = b"V" + b"a" * 10**6 + b"\np0\n"
    once = b"c_codecs\nencode\n(g0\nVlatin1\ntR"
    assert read(text + once + b".") == b"a" * 10**6
    with pytest.raises(Damaged, match="makes far more of a few bytes"):
        read(text + once * 50 + b".")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
)


@settings(max_examples=40)
@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_any_plain_data_is_what_pickle_reads(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@given(st.binary(max_size=200) | st.lists(st.sampled_from(sorted(_HANDLERS))).map(bytes))
def test_any_bytes_end_in_one_kind_of_error(data: bytes) -> None:
    with contextlib.suppress(Damaged):
        read(data)


def test_names_do_not_write_on_terminals() -> None:
    (name,) = inert(b"ca\n\x1b[2Jb" + b"c" * 1000 + b"\n.")
    assert name.isprintable()
    assert len(name) < 250


@pytest.mark.parametrize("size", ["I5000000000\n", "L5000000000L\n"])
def test_a_size_is_no_content(size: str) -> None:
    assert isinstance(read(b"cbuiltins\nbytearray\n(" + size.encode() + b"tR."), Inert)


@pytest.mark.parametrize(
    "data", [b"", b".", b"(", b"a.", b"R.", b"g0\n.", b"\xff.", b"hello", b"t.", b"I1\n", b"\x85.", b"(I1\nu.", b"b."]
)
def test_what_is_no_pickle_is_named(data: bytes) -> None:
    with pytest.raises(Damaged):
        read(data)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ((1, (3,), np.dtype("f4"), False, b"\0" * 8), r"said to be \(3,\), of 8 bytes"),
        ((1, (-1,), np.dtype("f4"), False, b"\0" * 8), "said to be of no shape, of 8 bytes"),
        ((1, (2**62, 4), np.dtype("f4"), False, b""), "of 0 bytes"),
    ],
)
def test_arrays_that_lie_about_their_shape_are_refused(state: Any, message: str) -> None:
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
    with pytest.raises(Damaged, match=message):
        read(head + pickle.dumps(state, 2)[2:-1] + b"b.")
