"""A pickle read as data: what it holds is rebuilt where it is known to be harmless, and nothing of it is ever called.

A pickle is a program for a small stack machine: it pushes values, names globals, and asks to have them called. This
machine knows the opcodes of protocols 0 to 5, and calls none but the functions of `known.py`, which build tensors,
arrays and containers. Every other global is an `Inert`, and what is done to it (called, given items, given a state)
leaves an `Inert`. Time and memory are bounded by the size of the pickle.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping
from typing import Any

from .known import KNOWN, ArrayType, Damaged, Inert, Known, NumpyArray, plain_key
from .literals import decimal, escaped_text, integer, old_text, quoted_text, text

Handler = Callable[["Unpickler"], Any]


class Unpickler:
    """Reads one pickle.

    Args:
        data: The bytes that it is in.
        start: Where in them it starts.
        storage: Makes a storage of what a file of torch says of it, as `('storage', type, key, location, numel)`.
        known: What names mean.

    Attributes:
        at: Where reading has come to; after `load`, where the pickle ends.
        inert: Names of the globals that are not known, in the order in which they were met.
    """

    def __init__(
        self,
        data: bytes | mmap.mmap,
        start: int = 0,
        storage: Callable[[tuple[Any, ...]], Any] | None = None,
        known: Mapping[str, Any] = KNOWN,
    ) -> None:
        self.at = start
        self.inert: dict[str, None] = {}
        self._data = data
        self._storage = storage
        self._known = known
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks under the marks
        self._memo: dict[int, Any] = {}
        self._budget = 16 * (len(data) - start) + 2**20

    def load(self) -> Any:
        """What the pickle holds, its objects as `Inert`.

        Raises:
            Damaged: It is cut short, is no pickle, or says of a tensor what cannot be.
        """
        data, handlers = self._data, _HANDLERS
        try:
            while (opcode := data[self.at]) != _STOP:
                self.at += 1
                handlers[opcode](self)
            self.at += 1
            return self._stack.pop()
        except (Damaged, MemoryError):
            raise
        except Exception as error:
            where = "is cut short" if self.at >= len(data) else f"is damaged, or is none, at byte {self.at}"
            raise Damaged(f"its pickle {where}") from error

    # Bytes

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if not 0 <= size <= len(self._data) - self.at:
            raise Damaged("its pickle is cut short")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def _number(self, kind: str) -> Any:
        (number,) = struct.unpack_from(kind, self._data, self.at)
        self.at += struct.calcsize(kind)
        return number

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.at)
        return self._take((end if end >= 0 else len(self._data)) + 1 - self.at)[:-1]

    # Globals and calls

    def _unknown(self, name: str) -> Inert:
        name = name if len(name) <= 200 and name.isprintable() else f"{name[:200]!r}"  # it is shown on terminals
        self.inert[name] = None
        return Inert(name)

    def _global(self, module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            return self._unknown("a global without a name")
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        path = f"{module}.{name}"
        return self._known[path] if path in self._known else self._unknown(path)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Known) or type(arguments) is not tuple:
            return function if isinstance(function, Inert) else Inert(f"a call of a {type(function).__name__}")
        self._spend(arguments)
        try:
            return function.make(*arguments)
        except (TypeError, ValueError, LookupError):  # of a version that is not known
            return self._unknown(function.name)

    def _spend(self, arguments: tuple[Any, ...]) -> None:
        """Counts what a function may copy: a pickle that names one long value many times would fill the memory."""
        self._budget -= sum(len(a) for a in arguments if isinstance(a, (str, bytes, bytearray, list, tuple, dict)))
        if self._budget < 0:
            raise Damaged("its pickle makes far more of a few bytes than a checkpoint does")

    def _persistent(self, key: Any) -> Any:
        if self._storage is None or type(key) is not tuple or not key or key[0] != "storage":
            return self._unknown("a persistent id")
        return self._storage(key)

    # Opcodes

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        self._stack.pop() if self._stack else self._pop_mark()

    def _tuple(self, size: int) -> None:
        self._stack[-size]  # there are as many
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _named(self) -> Any:
        module, name = (self._line().decode() for _ in range(2))
        return self._global(module, name)

    def _push_extension(self, size: str) -> None:
        self._push(self._unknown(f"copyreg extension {self._number(size)}"))

    def _push_stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._global(module, name))

    def _reduce(self) -> None:
        arguments = self._stack.pop()
        self._stack[-1] = self._call(self._stack[-1], arguments)

    def _reduce_with_keywords(self) -> None:
        keywords = self._stack.pop()
        self._reduce()
        if keywords != {}:
            self._stack[-1] = self._unknown("a call with keywords")

    def _instance(self) -> None:
        kind = self._named()
        self._push(self._call(kind, tuple(self._pop_mark())))

    def _object(self) -> None:
        kind, *arguments = self._pop_mark()
        self._push(self._call(kind, tuple(arguments)))

    def _build(self) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], (ArrayType, NumpyArray)) and type(state) is tuple:
            self._spend(state)
            self._stack[-1].set_state(state)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is dict:
            for key, value in zip(items[::2], items[1::2]):
                if plain_key(key):
                    target[key] = value
                else:
                    self._unknown(f"a key that is a {type(key).__name__}")

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(filter(plain_key, items))

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _push_dict(self) -> None:
        items = self._pop_mark()
        self._push({})
        self._set_items(items)


def _number(size: str) -> Handler:
    return lambda self: self._push(self._number(size))


def _sized(size: str, convert: Callable[[bytes], Any]) -> Handler:
    """Bytes behind their number."""
    return lambda self: self._push(convert(self._take(self._number(size))))


def _lined(convert: Callable[[bytes], Any]) -> Handler:
    """Bytes up to the end of the line."""
    return lambda self: self._push(convert(self._line()))


_OPCODES: dict[bytes, Handler] = {
    # Values
    b"N": lambda self: self._push(None),
    b"\x88": lambda self: self._push(True),
    b"\x89": lambda self: self._push(False),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"J": _number("<i"),
    b"G": _number(">d"),
    b"I": _lined(decimal),
    b"L": _lined(decimal),
    b"F": _lined(float),
    b"\x8a": _sized("<B", integer),
    b"\x8b": _sized("<i", integer),
    b"X": _sized("<I", text),
    b"\x8c": _sized("<B", text),
    b"\x8d": _sized("<Q", text),
    b"V": _lined(escaped_text),
    b"S": _lined(quoted_text),
    b"T": _sized("<i", old_text),
    b"U": _sized("<B", old_text),
    b"B": _sized("<I", bytes),
    b"C": _sized("<B", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x96": _sized("<Q", bytearray),
    # Containers
    b")": lambda self: self._push(()),
    b"\x85": lambda self: self._tuple(1),
    b"\x86": lambda self: self._tuple(2),
    b"\x87": lambda self: self._tuple(3),
    b"t": lambda self: self._push(tuple(self._pop_mark())),
    b"]": lambda self: self._push([]),
    b"l": lambda self: self._push(self._pop_mark()),
    b"a": lambda self: self._extend([self._stack.pop()]),
    b"e": lambda self: self._extend(self._pop_mark()),
    b"}": lambda self: self._push({}),
    b"d": Unpickler._push_dict,
    b"s": lambda self: self._set_items([self._stack.pop(), self._stack.pop()][::-1]),
    b"u": lambda self: self._set_items(self._pop_mark()),
    b"\x8f": lambda self: self._push(set()),
    b"\x90": lambda self: self._extend(self._pop_mark()),
    b"\x91": lambda self: self._push(frozenset(filter(plain_key, self._pop_mark()))),
    # The stack and the memo
    b"(": Unpickler._mark,
    b"0": Unpickler._pop,
    b"1": Unpickler._pop_mark,
    b"2": lambda self: self._push(self._stack[-1]),
    b"g": lambda self: self._get(int(self._line())),
    b"h": lambda self: self._get(self._number("<B")),
    b"j": lambda self: self._get(self._number("<I")),
    b"p": lambda self: self._put(int(self._line())),
    b"q": lambda self: self._put(self._number("<B")),
    b"r": lambda self: self._put(self._number("<I")),
    b"\x94": lambda self: self._put(len(self._memo)),
    b"\x80": lambda self: self._take(1),  # the protocol
    b"\x95": lambda self: self._take(8),  # a frame, which promises that what follows is whole
    # Objects
    b"c": lambda self: self._push(self._named()),
    b"\x93": Unpickler._push_stack_global,
    b"\x82": lambda self: self._push_extension("<B"),
    b"\x83": lambda self: self._push_extension("<H"),
    b"\x84": lambda self: self._push_extension("<i"),
    b"R": Unpickler._reduce,
    b"\x81": Unpickler._reduce,  # a new object of a class, as good as a call of it
    b"\x92": Unpickler._reduce_with_keywords,
    b"i": Unpickler._instance,
    b"o": Unpickler._object,
    b"b": Unpickler._build,
    b"P": lambda self: self._push(self._persistent(self._line())),
    b"Q": lambda self: self._push(self._persistent(self._stack.pop())),
}
_HANDLERS = {ord(opcode): handler for opcode, handler in _OPCODES.items()}
_STOP = ord(".")
