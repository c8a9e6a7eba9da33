"""The driver of CUDA devices, by CuPy: the one place that knows what CuPy's functions are called."""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from nagraph.backends.cuda import cuda_errors, nvrtc
from nagraph.backends.cuda.arrays import ALIGNMENT, ARRAYS, hold, upload
from nagraph.backends.cuda.driver import Array, Built, Device, Driver, Function, Words
from nagraph.backends.cuda.functions import function_of
from nagraph.backends.cuda.products import product_of
from nagraph.backends.gpu.target import GpuTarget
from nagraph.errors import DeviceError, NagraphError
from nagraph.ir.types import TensorType
from nagraph.kernel.form import Kernel
from nagraph.program.instructions import SortTask

#: Tables that may be on their way to the device at one time.
TABLES = 16
#: Shared memory of a block beyond which a function has to ask for it.
USUAL_SHARED = 48 << 10
#: The stream that is another one on each thread (cudaStreamPerThread), and CUDA's number for the attribute of dynamic shared memory.
PER_THREAD, MAX_DYNAMIC_SHARED = 2, 8


class CuPyMemory:
    """Memory on which no stream has a claim: giving it back waits for whatever still uses it."""

    def __init__(self, cupy: Any, nbytes: int):
        try:
            memory = cupy.cuda.Memory(max(nbytes, 1))
        except (MemoryError, cupy.cuda.runtime.CUDARuntimeError):  # what the pool of arrays keeps for later may be enough
            cupy.get_default_memory_pool().free_all_blocks()
            memory = cupy.cuda.Memory(max(nbytes, 1))
        self.pointer = cupy.cuda.MemoryPointer(memory, 0)
        self.address: int = self.pointer.ptr


class CuPyTable(CuPyMemory):
    """A table on a device, with places on the host from which it is copied: as many as may be on their way at one time."""

    def __init__(self, cupy: Any, count: int):
        super().__init__(cupy, 8 * count)
        self._stream, self._nbytes = cupy.cuda.get_current_stream, 8 * count
        self._pinned = [cupy.cuda.alloc_pinned_memory(self._nbytes) for _ in range(TABLES)]
        self._places = [np.frombuffer(p, np.int64, count) for p in self._pinned]
        self._copied = [cupy.cuda.Event(disable_timing=True) for _ in range(TABLES)]
        self._next = 0

    def write(self, words: Words) -> None:
        n, self._next = self._next, (self._next + 1) % TABLES
        self._copied[n].synchronize()
        self._places[n][:] = words
        stream = self._stream()
        self.pointer.copy_from_host_async(self._pinned[n].ptr, self._nbytes, stream)
        self._copied[n].record(stream)


class CuPyDevice(Device):
    """A CUDA device."""

    def __init__(self, cupy: Any, number: int):
        self.number, self.label = number, f"cuda:{number}"
        self._cupy, self._cuda, self._runtime = cupy, cupy.cuda, cupy.cuda.runtime
        self.device = cupy.cuda.Device(number)
        self.architecture = f"sm_{self.device.compute_capability}"
        about = cupy.cuda.runtime.getDeviceProperties(number)
        self.name = about["name"].decode()
        self.multiprocessors, self.cache_nbytes = int(about["multiProcessorCount"]), int(about["l2CacheSize"])
        self._class = cupy.ndarray
        with self.device:
            self._capturing = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def active(self) -> Iterator[None]:
        before = self._runtime.getDevice()
        if before == self.number:
            yield
            return
        self._runtime.setDevice(self.number)
        try:
            yield
        finally:
            self._runtime.setDevice(before)

    # -- arrays ---------------------------------------------------------------------------------------------------

    def wanted(self, type: TensorType) -> tuple[Any, ...]:
        return self._class, type.dtype, type.shape, True

    def addresses(self, arrays: Sequence[Any], wanted: Sequence[tuple[Any, ...]]) -> list[int] | None:
        try:
            if [(x.__class__, x.dtype, x.shape, x._c_contiguous) for x in arrays] != wanted:
                return None
        except AttributeError:  # as of arrays of other libraries
            return None
        memory = [x.data for x in arrays]
        found = [m.ptr for m in memory]
        if functools.reduce(operator.or_, found, 0) % ALIGNMENT or any([m.device_id != self.number for m in memory]):
            return None
        return found

    def pointers(self, arrays: Sequence[Array]) -> list[int]:
        return [x.data.ptr for x in arrays]

    def owns(self, arrays: Sequence[Array]) -> bool:
        return all([x.base is None for x in arrays])

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self._cupy.ndarray(shape, dtype)

    # -- streams --------------------------------------------------------------------------------------------------

    def stream(self) -> Any:
        found = self._cuda.get_current_stream()
        return found if found.ptr != PER_THREAD else (found, threading.get_ident())

    def follow(self, stream: Any) -> None:
        if isinstance(stream, tuple):  # it can't be named from another thread
            self._runtime.deviceSynchronize()
        else:
            self._cuda.get_current_stream().wait_event(stream.record())

    def wait(self) -> None:
        self._runtime.deviceSynchronize()

    # -- memory ---------------------------------------------------------------------------------------------------

    def memory(self, nbytes: int) -> CuPyMemory:
        return CuPyMemory(self._cupy, nbytes)

    def table(self, count: int) -> CuPyTable:
        return CuPyTable(self._cupy, count)

    def put(self, address: int, array: np.ndarray[Any, Any]) -> None:
        memory = self._cuda.UnownedMemory(address, array.nbytes, self, self.number)
        upload(self._cuda.MemoryPointer(memory, 0), array)

    def fetch(self, address: int) -> Callable[[], bool]:
        stream, pinned = self._cuda.get_current_stream(), self._cuda.alloc_pinned_memory(1)
        self._runtime.memcpyAsync(pinned.ptr, address, 1, self._runtime.memcpyDeviceToHost, stream.ptr)
        copied = self._cuda.Event(disable_timing=True)
        copied.record(stream)
        hold(pinned, copied)

        def answer() -> bool:
            copied.synchronize()
            return bool(np.frombuffer(pinned, np.bool_, 1)[0])

        return answer

    # -- launches -------------------------------------------------------------------------------------------------

    def load(self, function: Function) -> Any:
        module = self._cuda.Module()
        module.load(function.built.code)
        loaded = module.get_function(function.name)
        if function.shared_nbytes > USUAL_SHARED:
            self._cuda.driver.funcSetAttribute(loaded.ptr, MAX_DYNAMIC_SHARED, function.shared_nbytes)
        return loaded, function

    def bind(self, loaded: Any, table: int, numbers: Sequence[int]) -> Callable[[], None]:
        call, function = loaded
        arguments = (np.uint64(table), *map(np.int32, numbers))
        return functools.partial(call, function.grid, function.block, arguments, function.shared_nbytes)

    def product(self, product: Any) -> Callable[[Sequence[int]], None]:
        try:
            from cupy_backends.cuda.libs import cublas
        except ImportError:
            raise DeviceError(cuda_errors.NO_CUBLAS) from None
        return product_of(product, self._cuda, cublas)

    def capture(self, launches: Sequence[Callable[[], None]]) -> Callable[[], None]:
        with self._capturing as stream:
            stream.begin_capture()
            try:
                for launch in launches:
                    launch()
            except BaseException:
                with suppress(Exception):  # the capture is broken, and says so once more
                    stream.end_capture()
                self._capturing = self._cuda.Stream(non_blocking=True)
                raise
            captured: Callable[[], None] = stream.end_capture().launch
            return captured

    # -- time -----------------------------------------------------------------------------------------------------

    def mark(self) -> Any:
        return self._cuda.get_current_stream().record()

    def milliseconds(self, first: Any, last: Any) -> float:
        last.synchronize()
        return float(self._cuda.get_elapsed_time(first, last))


class CuPyDriver(Driver):
    """The driver of the CUDA devices of this machine. CuPy is loaded when the first of them is asked for."""

    kind = ARRAYS

    def __init__(self) -> None:
        self._devices: dict[int, CuPyDevice] = {}

    def missing(self) -> str:
        return cuda_errors.missing()

    def about(self) -> dict[str, str]:
        if (cupy := cuda_errors.installed()) is None:
            return {}
        told = {"CuPy": cupy.__version__}
        if not self.missing():
            told["driver"] = f"for CUDA {cuda_errors.version(cupy.cuda.runtime.driverGetVersion())}"
            for n in range(cupy.cuda.runtime.getDeviceCount()):
                found = self.device(n)
                total = found.device.mem_info[1]
                told[found.label] = (f"{found.name}, {found.architecture}, {found.multiprocessors} multiprocessors, "
                                     f"{total / 2**30:.0f} GB")
        return told

    def device(self, number: int | None = None) -> CuPyDevice:
        if why := cuda_errors.missing():
            raise DeviceError(why)
        import cupy

        try:
            number = cupy.cuda.runtime.getDevice() if number is None else number
            found = self._devices.get(number)
            if found is None:
                found = self._devices[number] = CuPyDevice(cupy, number)
            return found
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise cuda_errors.explained(error, "", None) or error from None

    def number(self, array: Array) -> int:
        return int(array.data.device_id)

    def current(self) -> int:
        import cupy

        return int(cupy.cuda.runtime.getDevice())

    def function(self, work: Kernel | SortTask, target: GpuTarget, library: bool = True) -> Any:
        return function_of(work, target, library)

    def build(self, functions: Sequence[Any], architecture: str) -> list[Built]:
        return nvrtc.built(functions, architecture)

    def explained(self, error: Exception, name: str, device: Device | None) -> NagraphError | None:
        return cuda_errors.explained(error, name, device)


DRIVER = CuPyDriver()
