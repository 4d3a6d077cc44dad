"""What a checkpoint's pickle may name: tensors, NumPy arrays and containers, each rebuilt by a function of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor


class Damaged(Exception):
    """A file says what cannot be: it is cut short, damaged, or made to mislead."""


@dataclass(frozen=True)
class Inert:
    """What stands where a file has an object of a kind that is not known here.

    Attributes:
        name: The global that the file names.
    """

    name: str


@dataclass(frozen=True)
class Known:
    """A global that a file may call, and our function in its place."""

    name: str
    make: Callable[..., Any]


@dataclass(frozen=True)
class StorageType:
    """A class of storages; `dtype` is None for the one of bytes."""

    dtype: torch.dtype | None


@dataclass(frozen=True)
class Storage:
    """Bytes of a file as values of one kind."""

    values: torch.UntypedStorage
    dtype: torch.dtype


class ArrayType:
    """A dtype of NumPy; its byte order comes with its state."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)

    @classmethod
    def named(cls, code: Any, *flags: Any) -> ArrayType | Inert:
        """The dtype of a code such as 'f4'; Inert where its values are not numbers."""
        if type(code) is not str:
            raise TypeError("no code")
        return cls(code) if re.fullmatch(r"[<>=|]?[biufc?]\d*", code) else Inert(f"numpy.dtype {code[:20]!r}")

    def set_state(self, state: Any) -> None:
        """Takes the byte order out of what `numpy.dtype` pickles."""
        if type(state) is tuple and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class NumpyArray:
    """An array of NumPy; its values come with its state."""

    def __init__(self, *_: Any) -> None:
        self.kind: ArrayType | Inert = Inert("an array without values")
        self.shape: tuple[int, ...] = ()
        self.order: Literal["C", "F"] = "C"
        self.data: bytes | bytearray = b""
        self.axes: tuple[int, ...] | None = None
        self._tensor: Tensor | Inert | None = None

    def set_state(self, state: Any) -> None:
        """Takes shape, dtype and values out of what `numpy.ndarray` pickles."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise Damaged("it has an array of NumPy without its values")
        shape, kind, fortran, data = state[-4:]
        if isinstance(kind, ArrayType) and isinstance(data, (str, bytes, bytearray)):
            self._fill(data.encode("latin1") if isinstance(data, str) else data, kind, shape, "F" if fortran else "C")
        else:
            self.kind = kind if isinstance(kind, Inert) else Inert("an array of objects")

    def _fill(self, data: bytes | bytearray, kind: ArrayType, shape: Any, order: Literal["C", "F"]) -> None:
        if not _sizes(shape) or math.prod(shape) * kind.dtype.itemsize != len(data):
            raise Damaged(f"it has an array that is said to be {_shown(shape)}, of {len(data)} bytes")
        self.data, self.kind, self.shape, self.order = data, kind, tuple(shape), order

    @classmethod
    def from_buffer(cls, data: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> NumpyArray | Inert:
        """What protocol 5 calls in place of giving a state; `axes` is how NumPy 2.3 says any other order."""
        if isinstance(kind, Inert):
            return kind
        if not isinstance(data, (bytes, bytearray)) or not isinstance(kind, ArrayType):
            raise TypeError("no values")
        array = cls()
        array._fill(data, kind, shape, "F" if order == "F" else "C")
        if order == "K" and axes is not None:
            if not _sizes(axes) or sorted(axes) != list(range(len(array.shape))):
                raise Damaged("it has an array whose axes are none")
            array.axes = tuple(axes)
        return array

    def tensor(self) -> Tensor | Inert:
        """A tensor of its own memory, the same one every time."""
        if isinstance(self.kind, Inert):
            return self.kind
        if self._tensor is None:
            values = np.frombuffer(self.data, self.kind.dtype).reshape(self.shape, order=self.order)
            self._tensor = array_to_tensor(values if self.axes is None else values.transpose(self.axes))
        return self._tensor


def array_to_tensor(values: np.ndarray[Any, Any]) -> Tensor | Inert:
    """A copy of an array, in the order of bytes of this machine; Inert where torch has no such dtype."""
    try:
        return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))
    except TypeError:
        return Inert(f"numpy.dtype {values.dtype}")


def plain_key(key: Any) -> bool:
    """Whether this can be a key: hashing nested tuples may take for ever."""
    plain = (str, int, float, bool, bytes, type(None))
    return type(key) in plain or (type(key) is tuple and len(key) <= 8 and all(type(item) in plain for item in key))


def _sizes(sizes: Any) -> bool:
    return type(sizes) in (tuple, list) and len(sizes) <= 64 and all(type(n) is int and 0 <= n < 2**63 for n in sizes)


def _shown(sizes: Any) -> str:
    return str(tuple(sizes)) if _sizes(sizes) else "of no shape"


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor | Inert:
    """Any of torch's ways to say: these values, from here, in this shape."""
    if isinstance(storage, Inert):
        return storage
    if not isinstance(storage, Storage):
        raise TypeError("no storage")
    dtype = next((item for item in rest if isinstance(item, torch.dtype)), storage.dtype)
    if any(isinstance(item, dict) and any(item.get(bit) for bit in ("conj", "neg")) for item in rest):
        raise ValueError("a lazily conjugated tensor")
    if not _sizes(size) or not _sizes(stride) or len(size) != len(stride) or not _sizes([offset]):
        raise Damaged(f"it has a tensor {_shown(size)} with strides {_shown(stride)}")
    numel, held = math.prod(size), storage.values.nbytes() // dtype.itemsize
    reach = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride)) if numel else 0
    if reach > held or numel > max(held, 2**24):  # values that are held once and shown often: a few are no harm
        raise Damaged(f"it has a tensor that is said to be {_shown(size)}, of {held} values")
    return torch.empty(0, dtype=dtype).set_(storage.values, offset, tuple(size), tuple(stride))


def _tensor_of_type(rebuild: Any, kind: Any, arguments: Any, *state: Any) -> Any:
    """A tensor of a subclass, or with attributes: the tensor."""
    if not isinstance(rebuild, Known) or rebuild.make not in (_tensor, _first):
        raise TypeError("no tensor")
    return rebuild.make(*arguments)


def _first(value: Any, *_: Any) -> Any:
    """Of `Parameter(tensor, requires_grad)` and what other devices save by way of the CPU: the tensor."""
    if not isinstance(value, (Tensor, NumpyArray, Inert)):
        raise TypeError("no tensor")
    return value


def _dict(*arguments: Any) -> dict[Any, Any]:
    """A dict from nothing, from another one, or from a list of pairs; a default factory is no pair."""
    content = arguments[0] if arguments else ()
    if isinstance(content, (Inert, Known)) or content is None:
        return {}
    pairs: Iterable[Any] = content.items() if type(content) is dict else _sequence(content)
    return {key: value for key, value in pairs if plain_key(key)}


def _reconstructed(kind: Any, base: Any, state: Any) -> Any:
    """An object as protocols 0 and 1 have it."""
    if isinstance(kind, Known) and kind.make is _dict:
        return _dict(state)
    return kind if isinstance(kind, Inert) else Inert("copyreg._reconstructor")


def _type_alone(*_: Any) -> Any:
    raise TypeError("a type that is named, as a default factory is, and not called")


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, ArrayType):
        return kind if isinstance(kind, Inert) else Inert("a scalar of NumPy")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(content, (str, bytes, bytearray)):
        raise TypeError(encoding)
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _sequence(content: Any = ()) -> Any:
    if type(content) not in (list, tuple):
        raise TypeError("no sequence")
    return content


_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((f"torch._utils._rebuild_tensor{v}" for v in ("", "_v2", "_v3")), _tensor),
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch.Size": _sequence,
    "torch.device": lambda kind, index=None: kind,  # every tensor is read onto the CPU
    **dict.fromkeys((f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")), NumpyArray),
    **dict.fromkeys((f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")), _scalar),
    **dict.fromkeys((f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")), NumpyArray.from_buffer),
    "numpy.ndarray": NumpyArray,
    "numpy.dtype": ArrayType.named,
    **dict.fromkeys(("collections.OrderedDict", "collections.defaultdict", "collections.Counter"), _dict),
    "builtins.dict": _dict,
    "builtins.list": lambda *items: list(_sequence(*items)),
    "builtins.tuple": lambda *items: tuple(_sequence(*items)),
    "builtins.set": lambda *items: set(filter(plain_key, _sequence(*items))),
    "builtins.frozenset": lambda *items: frozenset(filter(plain_key, _sequence(*items))),
    **dict.fromkeys((f"builtins.{name}" for name in ("bool", "int", "float", "str", "object")), _type_alone),
    "builtins.complex": lambda *parts: complex(*map(float, parts)),
    "copyreg._reconstructor": _reconstructed,
    "builtins.bytes": _bytes,
    "builtins.bytearray": lambda *content: bytearray(_bytes(*content)),
    "_codecs.encode": _bytes,
}
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": None,
}
KNOWN: dict[str, Any] = {
    **{name: Known(name, make) for name, make in _CALLS.items()},
    **{f"{home}.{n}Storage": StorageType(d) for n, d in _STORAGES.items() for home in ("torch", "torch.cuda")},
    "torch.storage.UntypedStorage": StorageType(None),
    **{str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
}
"""What a name in a file means: a function that may be called, or a value."""
