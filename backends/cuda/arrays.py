"""CuPy's arrays: the kind that lives on CUDA devices. Asking whether something is one never loads CuPy."""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.arrays import Array, ArrayKind
from nagraph.forks import Lock
from nagraph.ir.types import TensorType

#: Where kernels may take an operand to begin.
ALIGNMENT = 16
#: Arrays of more bytes go to a device straight from where they are, and the host waits: a copy for the way would take as long.
MOST_STAGED = 64 << 20


def _cupy() -> Any:
    """CuPy, which is loaded when the first array goes to a device."""
    import cupy

    return cupy


def number_of(device: str) -> int:
    """The number in a device's name; the current device's if no device is named."""
    return int(device.partition(":")[2]) if device else _cupy().cuda.runtime.getDevice()


class CuPyArrays(ArrayKind):
    """CuPy's arrays. Work on them is queued on the stream that is current on the calling thread."""

    name = "CuPy"

    def classes(self) -> tuple[type, ...]:
        found = getattr(sys.modules.get("cupy"), "ndarray", None)
        return () if found is None else (found,)

    def devices(self) -> tuple[str, ...]:
        """All devices, the current one first."""
        runtime = _cupy().cuda.runtime
        current = runtime.getDevice()
        return tuple(f"cuda:{n}" for n in sorted(range(runtime.getDeviceCount()), key=lambda n: n != current))

    def type(self, array: Array) -> TensorType:
        return TensorType(array.dtype, array.shape)

    def device(self, array: Array) -> str:
        return f"cuda:{array.data.device_id}"

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = array.get()
        return found

    def from_numpy(self, array: np.ndarray[Any, Any], device: str = "") -> Array:
        cupy = _cupy()
        with cupy.cuda.Device(number_of(device)):
            made = cupy.ndarray(array.shape, array.dtype)
            upload(made.data, array)
            return made

    def from_dlpack(self, array: Array, device: str = "") -> Array:
        """Where it is on a device of CUDA, its own memory; the work of its library that is queued already comes first."""
        kind, number = map(int, array.__dlpack_device__())
        if kind not in (2, 13):  # neither a device of CUDA nor memory that it manages
            return super().from_dlpack(array, device)
        cupy = _cupy()
        try:
            with cupy.cuda.Device(number):
                found = cupy.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            why = str(error).partition("\n")[0]
            raise TypeError(f"a {type(array).__name__} on cuda:{number} can't be taken by CuPy ({why}); "
                            "copy it with its own library") from None
        return found if not device or number == number_of(device) else self.move(found, device)

    def move(self, array: Array, device: str) -> Array:
        cupy = _cupy()
        with array.device:
            source = cupy.cuda.get_current_stream()
            ready = source.record()
        with cupy.cuda.Device(number_of(device)):
            stream = cupy.cuda.get_current_stream()
            stream.wait_event(ready)
            made = array.copy()
            copied = stream.record()
        source.wait_event(copied)  # until then nothing takes the memory that was read
        return made

    def copy(self, array: Array) -> Array:
        with array.device:
            return array.copy()

    def row_major(self, array: Array) -> Array:
        if array.flags.c_contiguous and array.data.ptr % ALIGNMENT == 0:
            return array
        with array.device:
            return array.copy()

    def not_donatable(self, array: Array) -> str:
        if not array.flags.c_contiguous:
            return "is not C-contiguous"
        if array.data.ptr % ALIGNMENT:
            return f"does not begin at a multiple of {ALIGNMENT} bytes"
        if array.base is not None or not array.flags.owndata:
            return "does not own its memory"
        return ""

    def overlapping(self, arrays: Sequence[Array]) -> set[int]:
        return meeting([_span(x) for x in arrays])

    def wait(self, array: Array) -> None:
        with array.device:
            _cupy().cuda.get_current_stream().synchronize()


#: Pinned memory of the host that copies are still using, each behind a mark after its copy.
_in_use: collections.deque[tuple[Any, Any]] = collections.deque()
_lock = Lock()


def hold(memory: Any, copied: Any) -> None:
    """Keep pinned memory until a mark is passed: given back before, it would be another copy's."""
    with _lock:
        while _in_use and _in_use[0][0].done:
            _in_use.popleft()
        _in_use.append((copied, memory))


def upload(memory: Any, array: np.ndarray[Any, Any]) -> None:
    """Queue a copy of a row-major array to memory of the current device (CuPy's `MemoryPointer`).

    What is written to the array later is not seen.
    """
    if not array.nbytes:
        return
    cuda = _cupy().cuda
    stream = cuda.get_current_stream()
    if array.nbytes > MOST_STAGED:
        memory.copy_from_host_async(array.ctypes.data, array.nbytes, stream)
        stream.synchronize()
        return
    pinned = cuda.alloc_pinned_memory(array.nbytes)
    np.frombuffer(pinned, np.uint8, array.nbytes)[:] = array.reshape(-1).view(np.uint8)
    memory.copy_from_host_async(pinned.ptr, array.nbytes, stream)
    hold(pinned, stream.record())


def _span(array: Array) -> tuple[int, int]:
    """The addresses from the first byte of an array to the last: of views with strides all in between."""
    begin = end = array.data.ptr
    for size, stride in zip(array.shape, array.strides):
        begin += min(0, stride * (size - 1))
        end += max(0, stride * (size - 1))
    return (begin, end + array.itemsize) if array.size else (begin, begin)


def meeting(spans: Sequence[tuple[int, int]]) -> set[int]:
    """The numbers of spans of addresses, the last one left out, that meet another's."""
    found: set[int] = set()
    end, last = -1, -1
    for begin, stop, i in sorted((*span, i) for i, span in enumerate(spans) if span[1] > span[0]):
        if begin < end:
            found |= {i, last}
        if stop > end:
            end, last = stop, i
    return found


ARRAYS = CuPyArrays()
