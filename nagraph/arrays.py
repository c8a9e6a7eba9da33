"""Arrays: what is one, of which type, on which device, and how it gets from one kind to another. Nobody else asks a library of arrays.

A backend computes on arrays of one kind (`Backend.array_kind`): NumPy's on this machine's CPU, or those of a library whose arrays live on a
device. All others are foreign: they can be read if they speak DLPack. Nothing here loads a library of arrays but NumPy.

Source: the array API standard, "Data interchange mechanisms" (DLPack).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import DeviceError
from nagraph.ir.graph import Value
from nagraph.ir.types import TensorType, as_dtype, bfloat16, type_of

Array = Any
CPU = "cpu"


class Readable(ABC):
    """A readable kind of arrays: their types, their devices and their numbers can be asked for."""

    #: What messages call it: NumPy, CuPy, MLX.
    name: ClassVar[str]

    @abstractmethod
    def type(self, array: Array) -> TensorType:
        """Its dtype and shape; no element is read. TypeError for a dtype that graphs do not hold."""

    @abstractmethod
    def device(self, array: Array) -> str:
        """The name of the device that it lives on."""

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Its numbers as a NumPy array, which may show its memory where that is the CPU's; it waits until they are computed.

        TypeError if they can't be read.
        """


class ArrayKind(Readable):
    """A kind of arrays that a backend computes on. Backends that compute on arrays of one library share one object.

    Devices are named by the backend's name alone or with a number after a colon, `cuda:1`. Results may be pending: what runs on a device
    runs in the order in which it was asked for, and only reading waits.
    """

    @abstractmethod
    def classes(self) -> tuple[type, ...]:
        """The classes of its arrays; () while its library is not loaded, for then there are none of them."""

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """The devices that there are, the one first that is taken where none is named."""

    @abstractmethod
    def from_numpy(self, array: np.ndarray[Any, Any], device: str = "") -> Array:
        """A new array with these numbers; what is written into `array` afterwards does not change it.

        array: row-major, in native byte order, of a dtype that the backend has. device: one of `devices`, or "" for the first.
        """

    def from_dlpack(self, array: Array, device: str = "") -> Array:
        """An array of another library that speaks DLPack, as one of its own, which may share its memory. TypeError if it can't be taken.

        Here by way of NumPy. A kind whose library takes DLPack does without, and orders its work after the other library's (`stream=`).
        """
        return self.from_numpy(row_major(FOREIGN.to_numpy(array)), device)

    def move(self, array: Array, device: str) -> Array:
        """One of its own arrays on another of its devices. Here by way of NumPy."""
        return self.from_numpy(row_major(self.to_numpy(array)), device)

    def copy(self, array: Array) -> Array:
        """A copy on the same device; the array itself where the library has no way to change one. Here by way of NumPy."""
        return self.move(array, self.device(array))

    def row_major(self, array: Array) -> Array:
        """It as executables take it: C-contiguous, in native byte order; itself if it is so already."""
        return array

    def not_donatable(self, array: Array) -> str:
        """Why a call can't take its memory for a result, as the end of a sentence with "it"; "" if it can."""
        return ""

    def overlapping(self, arrays: Sequence[Array]) -> set[int]:
        """The numbers of arrays whose memory meets another's. Here those that are the same object: enough where there are no views."""
        first: dict[int, int] = {}
        found: set[int] = set()
        for i, a in enumerate(arrays):
            if first.setdefault(id(a), i) != i:
                found |= {i, first[id(a)]}
        return found

    def wait(self, array: Array) -> None:
        """Return when it is computed. Here at once."""


class Host(ArrayKind):
    """NumPy's arrays, in the memory of this machine's CPU. NumPy's scalars count as arrays of rank 0."""

    name = "NumPy"

    def classes(self) -> tuple[type, ...]:
        return (np.ndarray, np.generic)

    def devices(self) -> tuple[str, ...]:
        return (CPU,)

    def type(self, array: Array) -> TensorType:
        return type_of(array)

    def device(self, array: Array) -> str:
        return CPU

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str = "") -> Array:
        return array.copy()

    def from_dlpack(self, array: Array, device: str = "") -> Array:
        return FOREIGN.to_numpy(array)

    def copy(self, array: Array) -> Array:
        return np.array(array)

    def row_major(self, array: Array) -> Array:
        return row_major(array)

    def not_donatable(self, array: Array) -> str:
        if not isinstance(array, np.ndarray):
            return "is no array"
        flags = array.flags
        if not flags.writeable:
            return "is read-only"
        if not flags.c_contiguous:
            return "is not C-contiguous"
        if not flags.owndata:
            return "does not own its memory"
        if not array.dtype.isnative:
            return "is byte-swapped"
        return ""

    def overlapping(self, arrays: Sequence[Array]) -> set[int]:
        held = [a for a in arrays if isinstance(a, np.ndarray)]
        if len(set(map(id, held))) == len(held) and all(a.flags.owndata for a in held):
            return set()  # the usual case: no two arrays own the same memory
        spans = sorted((*np.lib.array_utils.byte_bounds(a), i) for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.size)
        found: set[int] = set()
        end, last = -1, -1
        for start, stop, i in spans:
            if start < end:
                found |= {i, last}
            if stop > end:
                end, last = stop, i
        return found


class Foreign(Readable):
    """Arrays of whatever other library speaks DLPack: no backend that is known here computes on them."""

    name = "DLPack"
    #: Names of DLPack's device types; of others the number is shown.
    _DEVICES: ClassVar[dict[int, str]] = {1: CPU, 2: "cuda", 3: CPU, 8: "metal", 10: "rocm", 11: CPU, 13: "cuda", 14: "oneapi"}

    def type(self, array: Array) -> TensorType:
        dtype = array.dtype  # an object of NumPy's, or one that bears the standard's name behind its library's: torch.float32
        return TensorType(as_dtype(dtype if isinstance(dtype, np.dtype) else str(dtype).rpartition(".")[2]), tuple(array.shape))

    def device(self, array: Array) -> str:
        try:
            kind, number = map(int, array.__dlpack_device__())
        except (BufferError, RuntimeError, TypeError, ValueError):  # as of arrays that have no memory
            return "no device"
        name = self._DEVICES.get(kind, f"DLPack device {kind}")
        return name if name == CPU else f"{name}:{number}"

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        try:
            if self.type(array).dtype == bfloat16 and hasattr(type(array), "__array__"):  # which NumPy's from_dlpack does not know
                return np.asarray(array, dtype=bfloat16)
            if getattr(array, "is_neg", bool)():  # a view of PyTorch's whose signs its memory does not have yet, which DLPack can't say
                array = array.resolve_neg()
            on_cpu = self.device(array) == CPU  # where the first version of the protocol will do, which names no device
            return np.from_dlpack(array) if on_cpu else np.from_dlpack(array, device="cpu")
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            why = str(error).partition("\n")[0]
            raise TypeError(f"a {_class_name(array)} on {self.device(array)} can't be read through DLPack ({why}); "
                            "make a NumPy array of it with its own library") from None


#: NumPy's arrays: those of the backends that compute on the CPU.
HOST = Host()
FOREIGN = Foreign()
_known: list[ArrayKind] = [HOST]
_by_class: dict[type, Readable | None] = {}
#: Classes whose kind is remembered.
MOST_CLASSES = 4096


def register(kind: ArrayKind) -> None:
    """Make a kind known. Who finds a backend does this (`nagraph.backends`)."""
    if kind not in _known:
        _known.append(kind)
        _by_class.clear()


def kind_of(x: Any) -> Readable | None:
    """The kind of an array; None for what is no array that exists: traced values, types, numbers, all else."""
    try:
        return _by_class[type(x)]
    except KeyError:
        return _kind_of_class(type(x))


def _kind_of_class(cls: type) -> Readable | None:
    found: Readable | None = next((k for k in _known if issubclass(cls, k.classes())), None)
    if found is None and hasattr(cls, "__dlpack__") and hasattr(cls, "__dlpack_device__"):
        found = FOREIGN
    if len(_by_class) >= MOST_CLASSES:
        _by_class.clear()
    _by_class[cls] = found
    return found


def is_array(x: Any) -> bool:
    """Whether x is an array of whatever kind, a NumPy scalar, a traced value, or a stand-in for one."""
    return isinstance(x, (np.ndarray, np.generic, Value, TensorType)) or kind_of(x) is not None


def is_elsewhere(x: Any) -> bool:
    """Whether x is an array that is not NumPy's."""
    return type(x) is not np.ndarray and kind_of(x) not in (None, HOST)


def type_of_array(x: Any) -> TensorType:
    """The dtype and shape of an array of whatever kind, a traced value, or a stand-in. TypeError for other things."""
    if isinstance(x, (Value, TensorType)):
        return TensorType(x.dtype, x.shape)
    kind = kind_of(x)
    if kind is None:
        raise TypeError(f"{_class_name(x)} is no array: {x!r:.80}")
    return kind.type(x)


def row_major(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy array that is C-contiguous and in native byte order: itself if it is so already."""
    found = np.asarray(array)
    return np.asarray(found, dtype=found.dtype.newbyteorder("="), order="C")


def read(x: Any) -> np.ndarray[Any, Any]:
    """An array of whatever kind, or a number, as a NumPy array. TypeError if it can't be read."""
    kind = kind_of(x)
    return np.asarray(x) if kind is None else kind.to_numpy(x)


def put(x: Any, kind: ArrayKind, device: str = "") -> Any:
    """An array, or a number, as one of this kind on a device; "" leaves one of this kind where it is. TypeError if it can't be read."""
    source = kind_of(x)
    if source is kind:
        return x if not device or kind.device(x) == device else kind.move(x, device)
    if kind is HOST:
        return read(x)
    if source is not None and source is not HOST and hasattr(type(x), "__dlpack__"):
        return kind.from_dlpack(x, device)
    return kind.from_numpy(row_major(read(x)), device)


def copy(x: Any) -> Any:
    """A copy of an array of whatever kind, where it is; a foreign one is taken as it is."""
    kind = kind_of(x)
    return kind.copy(x) if isinstance(kind, ArrayKind) else x


def wait(x: Any) -> None:
    """Return when x is computed, if it is an array that a device computes."""
    kind = kind_of(x)
    if isinstance(kind, ArrayKind):
        kind.wait(x)


def beside(x: Any, like: Any) -> Any:
    """An array on the device of another one, and of its kind; itself where that one is NumPy's, foreign, or no array that exists."""
    kind = kind_of(like)
    return put(x, kind, kind.device(like)) if isinstance(kind, ArrayKind) and kind is not HOST else x


def common_device(kind: ArrayKind, arrays: Sequence[Any], label: Callable[[int], str]) -> str:
    """The device of the arrays of this kind; "" if there are none of it. DeviceError, with two labels, if they are on several."""
    found, first = "", 0
    for i, x in enumerate(arrays):
        if kind_of(x) is kind and (device := kind.device(x)) != found:
            if found:
                raise DeviceError(f"{label(first)} is on {found}, {label(i)} on {device}: a call's arrays are on one device; "
                                  f"move one of them: ng.device_put(x, {found!r})")
            found, first = device, i
    return found


def gathered(kind: ArrayKind, arrays: Sequence[Any], types: Sequence[TensorType], label: Callable[[int], str]) -> list[Any]:
    """Arrays and numbers of these types as executables on this kind take them: of the kind, row-major, on one device.

    label: how errors call number i. DeviceError if one can't be read, or if they are on several devices.
    """
    device = common_device(kind, arrays, label)
    found = []
    for i, (x, type) in enumerate(zip(arrays, types, strict=True)):
        try:
            if kind_of(x) is None:
                x = np.asarray(x, dtype=type.dtype)
            found.append(kind.row_major(put(x, kind, device)))
        except TypeError as error:
            raise DeviceError(f"{label(i)}: {error}") from None
    return found


def _class_name(x: Any) -> str:
    cls = type(x)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]} {cls.__qualname__}"
