"""Every format that weights come in gives the tensors that its own library gives; what is damaged is named."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from backbone_kit import CheckpointError
from backbone_kit.checkpoint.io import read_checkpoint

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16]
FORMATS: dict[str, Callable[[Any, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "protocol 4": lambda content, path: torch.save(content, path, pickle_protocol=4),
    "safetensors": safetensors.torch.save_file,
    "pickle": lambda content, path: path.write_bytes(pickle.dumps(content)),
    "pickle of protocol 2": lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
}


def weights() -> dict[str, Tensor]:
    made = {str(dtype): (torch.randn(3, 5) * 50).to(dtype) for dtype in DTYPES}
    return made | {"scalar": torch.tensor(7), "empty": torch.zeros(0, 4), "channels": torch.randn(2, 3, 4, 4)}


def same(found: Any, expected: dict[str, Tensor]) -> bool:
    def bits(x: Tensor) -> Tensor:
        return x.detach().contiguous().view(-1).view(torch.uint8) if x.numel() else x

    return list(found) == list(expected) and all(
        (found[k].dtype, found[k].shape) == (v.dtype, v.shape) and torch.equal(bits(found[k]), bits(v))
        for k, v in expected.items()
    )


@pytest.mark.parametrize("form", FORMATS)
def test_tensors_of_every_kind_come_back(form: str, tmp_path: Path) -> None:
    expected = dict(sorted(weights().items()))
    FORMATS[form](expected, tmp_path / "a.any")
    found = read_checkpoint(tmp_path / "a.any")
    assert same(dict(sorted(found.tensors.items())), expected)
    assert (found.name, found.inert, dict(found.hanging)) == (str(tmp_path / "a.any"), (), {})


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_views_parameters_and_shared_memory_come_back(form: str, tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    image = torch.randn(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    expected = {
        "t": base.t(),
        "row": base[2],
        "p": nn.Parameter(base[:2]),
        "image": image,
        "wide": base[:1].expand(5, 4),
    }
    buffer = torch.zeros(3)
    buffer.note = "an attribute"  # type: ignore[attr-defined]
    FORMATS[form]({"state_dict": nn.ParameterDict(expected).state_dict() | expected | {"b": buffer}}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").tensors
    for key, value in (expected | {"b": buffer}).items():
        assert torch.equal(found[key], value)
        assert (found[key].stride(), type(found[key]), found[key].requires_grad) == (value.stride(), Tensor, False)
    assert found["t"].untyped_storage().data_ptr() == found["row"].untyped_storage().data_ptr()


@pytest.mark.parametrize("form", ["zip", "safetensors"])
def test_a_file_is_mapped_and_never_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.any"
    FORMATS[form]({"a": torch.ones(64), "b": torch.ones(64)}, path)
    before = path.read_bytes()
    a, b = read_checkpoint(path).tensors.values()
    assert a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr()
    apart = abs(a.untyped_storage().data_ptr() - b.untyped_storage().data_ptr())
    assert apart < path.stat().st_size  # two places in one mapping
    a += 1
    assert path.read_bytes() == before
    assert torch.equal(b, torch.ones(64))


def test_values_of_the_other_byte_order_are_turned(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(4.0), "b": torch.arange(3)}, tmp_path / "a.pth")
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, "u4" if len(data) == 16 else "u8").byteswap().tobytes()
            new.writestr(name, other if name.endswith("byteorder") else data)
    found = read_checkpoint(tmp_path / "b.pth").tensors
    assert torch.equal(found["a"], torch.arange(4.0))
    assert torch.equal(found["b"], torch.arange(3))


def test_a_pickle_of_detectron2_is_read(tmp_path: Path) -> None:
    model = {"stem.conv1.weight": np.ones((2, 3), "f4"), "stem.conv1.norm.bias": np.zeros(2, "f4")}
    content = {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
    for protocol in (2, 4, 5):
        (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol))
        found = read_checkpoint(tmp_path / "R-50.pkl")
        assert (found.container, found.left_aside) == ("model", ("__author__", "matching_heuristics"))
        assert same(found.tensors, {key: torch.from_numpy(value) for key, value in model.items()})


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Pickles as Python 2 did: text and bytes are the same opcode."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes | str) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_bytes


def test_pickles_within_pickles_end(tmp_path: Path) -> None:
    inner = pickle.dumps(torch.ones(2))
    for _ in range(3):
        inner = pickle.dumps(Dolls(inner))
    (tmp_path / "a.pkl").write_bytes(inner)
    with pytest.raises(CheckpointError, match=r"is a torch\.storage\._load_from_bytes, not a state dict"):
        read_checkpoint(tmp_path / "a.pkl")


class Dolls:
    def __init__(self, inner: bytes) -> None:
        self.inner = inner

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.inner,)  # type: ignore[attr-defined]


def test_a_pickle_of_caffe2_is_read(tmp_path: Path) -> None:
    blobs = {"conv1_w": np.arange(150, dtype="f4").reshape(2, 3, 5, 5), "res_conv1_bn_s": np.float32([1, 200])}
    content = {"blobs": blobs | {"conv1_w_momentum": np.zeros(3, "f4")}, "cfg": "MODEL: ..."}
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(content)
    (tmp_path / "R-50.pkl").write_bytes(file.getvalue())
    (tmp_path / "3.pkl").write_bytes(pickle.dumps({"blobs": {key.encode(): value for key, value in blobs.items()}}))
    found = read_checkpoint(tmp_path / "R-50.pkl")
    assert found.left_aside == ("cfg", "blobs.conv1_w_momentum")
    for checkpoint in (found, read_checkpoint(tmp_path / "3.pkl")):
        assert same(checkpoint.tensors, {key: torch.from_numpy(value) for key, value in blobs.items()})


def zipped(path: Path, change: Callable[[dict[str, bytes]], Any], **options: Any) -> None:
    """A file of torch, written again with other entries."""
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def cut(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def saved(content: Any, keep: float, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()[: int(len(file.getvalue()) * keep)]


def header(entry: Any, values: int = 16) -> bytes:
    text = (entry if isinstance(entry, str) else json.dumps(entry)).encode()
    return struct.pack("<Q", len(text)) + text + bytes(values)


def replace(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], Any]:
    def change(entries: dict[str, bytes]) -> None:
        name = next(name for name in entries if name.endswith("data.pkl"))
        assert old in entries[name]
        entries[name] = entries[name].replace(old, new)

    return change


def without(end: str) -> Callable[[dict[str, bytes]], Any]:
    return lambda entries: entries.pop(next(name for name in entries if name.endswith(end)))


LEGACY = {"_use_new_zipfile_serialization": False}
SIZE = b"(K\x04\x85"  # in `_rebuild_tensor_v2(storage, 0, (4,), (1,), ...)`
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a zip cut short": (cut(saved({"w": torch.ones(999)}, 0.6)), "cut short or damaged: the end of its zip archive"),
    "a legacy file cut in its values": (cut(saved({"w": torch.ones(999)}, 0.9, **LEGACY)), "cut short"),
    "a legacy file cut in its pickle": (cut(saved({"w": torch.ones(9)}, 0.3, **LEGACY)), "cut short|damaged"),
    "a pickle cut short": (cut(pickle.dumps({"w": np.ones(99)})[:-100]), "cut short"),
    "safetensors cut short": (
        cut(header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, values=8)),
        "cut short: it has .* bytes, and says that values end at",
    ),
    "a tar archive": (cut(bytes(257) + b"ustar" + bytes(99)), "is a tar archive"),
    "gzip": (cut(b"\x1f\x8b" + bytes(99)), "compressed by gzip; unpack it"),
    "json": (cut(b'{"message": "Not Found"}'), "is JSON, such as a server's error"),
    "an archive of numpy": (
        lambda path: zipped(path, lambda e: (e.clear(), e.update({"w.npy": b""}))),
        r"none of torch: it holds w\.npy",
    ),
    "torchscript": (
        lambda path: zipped(path, lambda e: e.update({"a/constants.pkl": b""})),
        "is a program of TorchScript",
    ),
    "a zip bomb": (
        lambda path: zipped(path, lambda e: e.update({"a/data/0": bytes(10**7)}), compression=zipfile.ZIP_DEFLATED),
        "is compressed, which torch never does",
    ),
    "a storage that is missing": (
        lambda path: zipped(path, without("data/0")),
        "holds 0 of the 16 bytes of its storage 0",
    ),
    "a storage that is longer": (
        lambda path: zipped(path, replace(b"cpuq\x06K\x04", b"cpuq\x06K\x40")),
        "holds 16 of the 256 bytes of its storage 0",
    ),
    "a tensor beyond its storage": (
        lambda path: zipped(path, replace(b"QK\x00K\x04\x85", b"QK\x00K\x05\x85")),
        r"said to be \(5,\), of 4 values",
    ),
    "an offset beyond its storage": (
        lambda path: zipped(path, replace(b"QK\x00K\x04\x85", b"QK\x01K\x04\x85")),
        r"said to be \(4,\), of 4 values",
    ),
    "a negative offset": (
        lambda path: zipped(path, replace(b"QK\x00K\x04\x85", b"QJ\xff\xff\xff\xffK\x04\x85")),
        r"has a tensor \(4,\)",
    ),
    "a tensor that is one value many times": (
        lambda path: zipped(path, replace(b"K\x04\x85q\x08K\x01\x85", b"J\xff\xff\xff\x7f\x85q\x08K\x00\x85")),
        r"said to be \(2147483647,\), of 4 values",
    ),
    "shape lies in safetensors": (
        cut(header({"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}})),
        r"'w' is said to be \[5\], from byte 0 to 16",
    ),
    "negative shapes in safetensors": (
        cut(header({"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}})),
        "'w' is said to be",
    ),
    "a header of no tensors": (cut(header({"w": [1]})), "its header is damaged at 'w'"),
    "a header within a header": (cut(header('{"w":' * 99999)), "its header is damaged"),
    "a key twice": (cut(header('{"w": 1, "w": 2}')), "its header is damaged"),
    "a header longer than the file": (cut(b"\xff" * 7 + b"\0" + b"{}"), "its header is said to have"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_is_named_with_its_file(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    path = tmp_path / "a.pth"
    make(path)
    with pytest.raises(CheckpointError, match=rf"^{path}: .*(?:{message})"):
        read_checkpoint(path)


def test_the_files_that_the_faults_are_made_of_are_sound(tmp_path: Path) -> None:
    zipped(tmp_path / "a.pth", lambda entries: None)
    assert torch.equal(read_checkpoint(tmp_path / "a.pth").tensors["w"], torch.arange(4.0))
    (tmp_path / "b").write_bytes(header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}))
    assert torch.equal(read_checkpoint(tmp_path / "b").tensors["w"], torch.zeros(4))
    (tmp_path / "c").write_bytes(saved({"w": torch.ones(999)}, 1, **LEGACY))
    assert torch.equal(read_checkpoint(tmp_path / "c").tensors["w"], torch.ones(999))


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("seed", range(3))
def test_random_damage_ends_in_one_kind_of_error(form: str, seed: int, tmp_path: Path) -> None:
    FORMATS[form](weights(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    generator = np.random.default_rng(seed)
    for _ in range(60):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 4):
            data[place] = generator.integers(0, 256)
        (tmp_path / "b.pth").write_bytes(data[: generator.integers(1, 2 * len(data))])
        with contextlib.suppress(CheckpointError):
            for tensor in read_checkpoint(tmp_path / "b.pth").tensors.values():
                tensor.clone()  # reads every value that it is said to have


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pth")
    (tmp_path / "a.pth").chmod(0)
    with pytest.raises(CheckpointError, match=r"a\.pth: Permission denied"):
        read_checkpoint(tmp_path / "a.pth")
