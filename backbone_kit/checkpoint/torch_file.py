"""Files of `torch.save`, in both of its formats: a zip archive, and before torch 1.6 pickles followed by the values."""

from __future__ import annotations

import mmap
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .known import KNOWN, Damaged, Inert, Known, Storage, StorageType
from .mapped import HeldBytes, MappedFile
from .unpickle import Unpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
Find = Callable[[str, int, int], torch.UntypedStorage]
"""The storage of a key, of so many bytes, for values of so many bytes."""


def read_zip(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What an archive of `torch.save` holds, and the names of what it holds that is not known.

    Raises:
        Damaged: It is cut short, is another archive, or says what cannot be.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise Damaged("it is cut short or damaged: the end of its zip archive is missing") from error
    with archive, path.open("rb") as file:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "constants.pkl" in entries:
            raise Damaged("it is a program of TorchScript; save model.state_dict() of the model that it came from")
        if "data.pkl" not in entries:
            raise Damaged(f"it is a zip archive, but none of torch: it holds {', '.join(archive.namelist()[:4])}")
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Damaged(f"its entry {entry.filename} is compressed, which torch never does")
        mapped = MappedFile(path)

        def find(key: str, size: int, itemsize: int) -> torch.UntypedStorage:
            entry = entries.get(f"data/{key}")
            held = 0 if entry is None else entry.file_size
            if entry is None or size > held:
                raise Damaged(f"it holds {held} of the {size} bytes of its storage {key}")
            file.seek(entry.header_offset)
            header = file.read(30)  # the local one: its name and its extra field need not be as long as the directory's
            if len(header) < 30 or not header.startswith(b"PK\3\4"):
                raise Damaged(f"its entry {entry.filename} is damaged")
            return mapped.storage(file.tell() + sum(struct.unpack("<HH", header[26:])), size, itemsize)

        order = archive.read(entries["byteorder"]).decode() if "byteorder" in entries else "little"
        unpickler = Unpickler(archive.read(entries["data.pkl"]), storage=_Storages(find, order != sys.byteorder))
        return unpickler.load(), tuple(unpickler.inert)


def read_pickle(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a plain pickle, or a file of torch before 1.6, holds, and the names of what it holds that is not known.

    Raises:
        Damaged: It is cut short, is no pickle, or says what cannot be.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = Unpickler(data, known=_PLAIN)
        content = first.load()
        if type(content) is not int or content != LEGACY_MAGIC:
            return content, tuple(first.inert)
        return _read_legacy(data, first.at, MappedFile(path))


def _read_legacy(data: bytes | mmap.mmap, start: int, values: MappedFile | HeldBytes) -> tuple[Any, tuple[str, ...]]:
    """What comes after the magic number."""
    for _ in range(2):  # the format's version, and the sizes of numbers there
        start = _after(Unpickler(data, start))
    find = _find_legacy(data, start, values)
    unpickler = Unpickler(data, start, _Storages(find, swapped=sys.byteorder != "little"))
    return unpickler.load(), tuple(unpickler.inert)


def _storage_in_bytes(data: Any) -> Any:
    """The storage of a tensor in a plain pickle, which holds it as a file of torch before 1.6, whole, within itself."""
    if not isinstance(data, bytes):
        raise TypeError("no bytes")
    magic = Unpickler(data)
    if magic.load() != LEGACY_MAGIC:
        raise TypeError("another format")
    return _read_legacy(data, magic.at, HeldBytes(data))[0]


_PLAIN = {**KNOWN, "torch.storage._load_from_bytes": Known("torch.storage._load_from_bytes", _storage_in_bytes)}
"""What names mean in a plain pickle; not in those within it, so that they are no Russian dolls."""


def _after(unpickler: Unpickler) -> int:
    unpickler.load()
    return unpickler.at


def _find_legacy(data: bytes | mmap.mmap, start: int, values: MappedFile | HeldBytes) -> Find:
    """Where the values are: behind the pickle is a list of keys, and in its order, for each, a count and the values.

    The pickle is therefore read twice: now, to learn how many bytes a value of each key has.
    """
    itemsizes: dict[str, int] = {}

    def note(description: tuple[Any, ...]) -> Inert:
        kind, key = description[1:3]
        if type(key) is not str:  # anything else may take for ever to hash
            raise Damaged("it has a storage without a key")
        itemsizes[key] = _dtype(kind).itemsize
        return Inert("a storage")

    keys = Unpickler(data, _after(Unpickler(data, start, note)))
    order, at = keys.load(), keys.at
    places: dict[str, tuple[int, int]] = {}
    for key in order if type(order) is list else ():
        if type(key) is not str or key not in itemsizes or at + 8 > len(data):
            raise Damaged("its list of storages is damaged")
        (count,) = struct.unpack("<q", data[at : at + 8])
        places[key] = (at + 8, count * itemsizes[key])
        at += 8 + max(0, count) * itemsizes[key]

    def find(key: str, size: int, itemsize: int) -> torch.UntypedStorage:
        start, held = places.get(key, (0, 0))
        if size > held:
            raise Damaged(f"it holds {held} of the {size} bytes of its storage {key}")
        return values.storage(start, size, itemsize)

    return find


def _dtype(kind: Any) -> torch.dtype:
    if not isinstance(kind, StorageType):
        raise Damaged("it has a storage of no known kind")
    return kind.dtype or torch.uint8


class _Storages:
    """Storages as a pickle describes them, each found once.

    Args:
        find: Where the bytes are.
        swapped: Whether the file was written on a machine of the other byte order.
    """

    def __init__(self, find: Find, swapped: bool) -> None:
        self._find = find
        self._swapped = swapped
        self._found: dict[str, torch.UntypedStorage] = {}

    def __call__(self, description: tuple[Any, ...]) -> Storage | Inert:
        kind, key, _, count, *view = description[1:]
        dtype = _dtype(kind)
        if type(key) is not str or type(count) is not int or count < 0:
            raise Damaged("it has a storage without a key or a size")
        if self._swapped and kind.dtype is None:
            return Inert("values in the byte order of another machine")
        size = count * dtype.itemsize
        values = self._found.get(key)
        if values is None or values.nbytes() < size:
            values = self._find(key, size, dtype.itemsize) if size else torch.empty(0).untyped_storage()
            if self._swapped:
                values.byteswap(dtype)  # type: ignore[no-untyped-call]
            self._found[key] = values
        if view and view[0] is not None:  # of files before torch 0.4: a part of it
            _, offset, length = view[0]
            if not 0 <= offset <= offset + length <= count:
                raise Damaged(f"it has a view of what its storage {key} does not hold")
            values = values[offset * dtype.itemsize : (offset + length) * dtype.itemsize]
        return Storage(values, dtype)
