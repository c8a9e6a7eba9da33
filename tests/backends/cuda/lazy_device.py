"""Devices on this CPU that are as lazy as real ones: what is queued runs when somebody waits, and not before.

So whatever relies on an order that no stream guarantees, on memory that was given back, or on something that the host has changed
since, computes with garbage. Arrays are opaque, freed memory is covered with a pattern when its stream comes to it, and all that crosses
is counted. Launches interpret the kernel form here; in `on_cpu` they run the CUDA text.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import ctypes
import threading
import weakref

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nagraph.arrays import ArrayKind
from nagraph.backends.cuda import moves
from nagraph.backends.cuda.arrays import meeting
from nagraph.backends.cuda.backend import CUDABackend
from nagraph.backends.cuda.driver import Built, Device, Driver
from nagraph.backends.gpu.products.library import library_product
from nagraph.errors import DeviceError
from nagraph.ir.types import DTYPES, TensorType
from nagraph.kernel.interpret import interpret_kernel
from nagraph.program.instructions import SortTask

GARBAGE = 0xE5
ALIGNMENT = 256


class Stream:
    """A queue. What is asked for on other streams is waited for by running it."""

    def __init__(self):
        self.queue, self.done, self.count = collections.deque(), 0, 0

    def push(self, work):
        self.queue.append(work)
        self.count += 1

    def run(self, until):
        while self.done < until:
            self.done += 1
            self.queue.popleft()()


class Memory:
    """Memory of a device: at an address of this process. stream: where it was asked for, if its pool is that stream's."""

    def __init__(self, device, nbytes, stream=None):
        device.allocate(nbytes)
        raw = np.full(nbytes + 2 * ALIGNMENT, GARBAGE, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start:start + nbytes]
        self.address = raw.ctypes.data + start
        device.spans[self.address] = nbytes
        weakref.finalize(self, Memory.free, device, raw, self.address, nbytes, stream).atexit = False

    @staticmethod
    def free(device, raw, address, nbytes, stream):
        def poison():
            raw[:] = GARBAGE
            device.spans.pop(address, None)
            device.used -= nbytes

        if stream is None:
            device.wait()
            poison()
        else:
            stream.push(poison)


class Table(Memory):
    def __init__(self, device, count):
        super().__init__(device, 8 * count)
        self.device = device

    def write(self, words):
        copied = words.copy()
        memory, device = self.bytes, self.device
        device.count("table")

        def put():
            memory[:] = copied.view(np.uint8)

        device.push(put)


class LazyArray:
    """An array on a device; nobody reads it but by `get`."""

    __slots__ = ("memory", "offset", "shape", "dtype", "device", "base", "__weakref__")

    def __init__(self, device, shape, dtype, memory=None, offset=0, base=None):
        self.device, self.shape, self.dtype, self.offset, self.base = device, tuple(shape), np.dtype(dtype), offset, base
        self.memory = memory or Memory(device, self.nbytes, device.stream())

    @property
    def nbytes(self):
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def address(self):
        return self.memory.address + self.offset

    def row(self, n):
        """A view of one row, which may begin anywhere."""
        step = self.nbytes // self.shape[0]
        return type(self)(self.device, self.shape[1:], self.dtype, self.memory, self.offset + n * step, self)

    def now(self):
        """What it holds now, whatever is queued."""
        return self.memory.bytes[self.offset:self.offset + self.nbytes].view(self.dtype).reshape(self.shape)

    def refused(self, *args, **kwargs):
        raise AssertionError("an array of a device was read or written without being asked to")

    __array__ = __float__ = __int__ = __bool__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = refused
    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __truediv__ = __lt__ = __gt__ = refused


class LazyArrays(ArrayKind):
    name = "Lazy"

    def __init__(self, driver):
        self.driver = driver

    def classes(self):
        return (self.driver.array_class,)

    def devices(self):
        return tuple(d.label for d in self.driver.found)

    def type(self, array):
        return TensorType(array.dtype, array.shape)

    def device(self, array):
        return array.device.label

    def to_numpy(self, array):
        array.device.count("get", array.nbytes)
        array.device.wait()
        return array.now().copy()

    def from_numpy(self, array, device=""):
        assert type(array) is np.ndarray and array.flags.c_contiguous and array.dtype.isnative
        at = self.driver.named(device) if device else self.driver.device()
        at.count("put", array.nbytes)
        copied = array.copy()
        with at.active():
            made = self.driver.array_class(at, array.shape, array.dtype)
            memory = made.memory
            at.push(lambda: memory.bytes.__setitem__(slice(None), copied.reshape(-1).view(np.uint8)))
        return made

    def copy(self, array):
        device = array.device
        with device.active():
            made = self.driver.array_class(device, array.shape, array.dtype)
            device.push(lambda: made.now().__setitem__(..., array.now()))
        return made

    def row_major(self, array):
        return array if array.address % 16 == 0 else self.copy(array)

    def not_donatable(self, array):
        return "does not own its memory" if array.base is not None else ""

    def overlapping(self, arrays):
        return meeting([(a.address, a.address + a.nbytes) for a in arrays])

    def wait(self, array):
        array.device.wait()


class LazyDevice(Device):
    """A device of a driver. most_nbytes: its memory."""

    architecture, name, multiprocessors, cache_nbytes = "sm_90", "lazy", 2, 1 << 12

    def __init__(self, driver, number, label):
        self.driver, self.number, self.label = driver, number, label
        self.streams, self.local = [Stream()], threading.local()
        self.spans, self.used, self.most_nbytes = {}, 0, 1 << 40
        self.counts = collections.Counter()
        self.launched = []
        self.capturing = None
        self.clock = 0

    def count(self, what, n=1):
        self.counts[what] += n

    def allocate(self, nbytes):
        if self.driver.fails.get("memory") or self.used + nbytes > self.most_nbytes:
            raise MemoryError("out of memory")
        self.used += nbytes

    def push(self, work):
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            self.stream().push(work)

    # -- the interface ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def active(self):
        before, self.driver.local.number = self.driver.current(), self.number
        try:
            yield
        finally:
            self.driver.local.number = before

    def wanted(self, type):
        return self.driver.array_class, type.dtype, type.shape

    def addresses(self, arrays, wanted):
        try:
            if [(x.__class__, x.dtype, x.shape) for x in arrays] != wanted or any(x.device is not self for x in arrays):
                return None
        except AttributeError:
            return None
        found = [x.address for x in arrays]
        return found if not any(n % 16 for n in found) else None

    def owns(self, arrays):
        return all(x.base is None for x in arrays)

    def pointers(self, arrays):
        return [x.address for x in arrays]

    def empty(self, shape, dtype):
        return self.driver.array_class(self, shape, dtype)

    def stream(self):
        return getattr(self.local, "stream", self.streams[0])

    @contextlib.contextmanager
    def on(self, stream):
        """Another current stream for the time."""
        before, self.local.stream = self.stream(), stream
        try:
            yield
        finally:
            self.local.stream = before

    def new_stream(self):
        self.streams.append(Stream())
        return self.streams[-1]

    def follow(self, stream):
        until = stream.count
        self.stream().push(lambda: stream.run(until))

    def wait(self):
        for stream in list(self.streams):
            stream.run(stream.count)

    def memory(self, nbytes):
        return Memory(self, nbytes)

    def table(self, count):
        return Table(self, count)

    def put(self, address, array):
        copied = array.copy()
        self.push(lambda: self.at(address)[:copied.nbytes].__setitem__(slice(None), copied.reshape(-1).view(np.uint8)))

    def fetch(self, address):
        self.count("fetch")
        place = np.zeros(1, np.uint8)
        self.push(lambda: place.__setitem__(slice(None), self.at(address)[:1]))
        stream = self.stream()
        until = stream.count

        def answer():
            self.count("waited")
            stream.run(until)
            return bool(place[0])

        return answer

    def bind(self, loaded, table, numbers):
        def run():
            pointers = self.at(table).view(np.int64)
            self.launched.append(loaded.name)
            self.launch(loaded, table, pointers, numbers)

        def queue():
            if self.driver.fails.get("launch"):
                raise self.driver.fails["launch"]
            self.push(run)

        return queue

    def product(self, product):
        def queue(addresses):
            assert all(addresses), "an operand of a library that is nowhere"
            self.count("product")
            memory = [(self.at(n)[:nbytes], d) for n, nbytes, d in zip(addresses, product.nbytes, self._dtypes(product), strict=True)]
            self.push(lambda: product.compute(*(m.view(d) for m, d in memory)))

        return queue

    @staticmethod
    def _dtypes(product):
        named = {m.operand: DTYPES[m.dtype] for m in (product.a, product.b, product.c)}
        return [named[n] for n in sorted(named)]

    def capture(self, launches):
        self.count("captured")
        self.capturing = found = []
        try:
            for launch in launches:
                launch()
        finally:
            self.capturing = None

        def replay():
            if self.driver.fails.get("launch"):
                raise self.driver.fails["launch"]
            self.count("replayed")
            for work in found:
                self.push(work)

        return replay

    def mark(self):
        place = []

        def tick():
            self.clock += 1
            place.append(self.clock)

        self.push(tick)
        return place

    def milliseconds(self, first, last):
        self.wait()
        return float(last[0] - first[0])

    # -- memory by address --------------------------------------------------------------------------------------------

    def at(self, address):
        """The bytes from an address to the end of its memory."""
        begins = sorted(self.spans)
        begin = begins[bisect.bisect(begins, address) - 1]
        left = begin + self.spans[begin] - address
        assert 0 <= left, "an address that is nobody's"
        return np.frombuffer((ctypes.c_char * left).from_address(address), np.uint8) if left else np.zeros(0, np.uint8)

    def of(self, address, dtype):
        found = self.at(address) if address else np.zeros(0, np.uint8)
        return found[:len(found) // dtype.itemsize * dtype.itemsize].view(dtype)


class Interpreted:
    """What a kernel becomes here: itself. It looks like GPU text to whoever builds and launches it."""

    grid = block = (1, 1, 1)
    shared_nbytes = scratch_nbytes = 0

    def __init__(self, work):
        self.work = work
        self.text = self.name = f"kernel_{id(work)}"


class Interpreting(LazyDevice):
    def load(self, function):
        return function

    def launch(self, function, table, pointers, numbers):
        if function.name == "nagraph_moves":
            return self._moves(pointers, *numbers)
        if function.name == "nagraph_flag":
            slot, flag = numbers
            self.at(int(pointers[flag]))[:1] = self.at(int(pointers[slot]))[:1]
            return None
        work = self.driver.known[function.name]
        if isinstance(work, SortTask):
            x, y = (self.of(int(pointers[s]), d) for s, d in zip(numbers, (
                work.type.dtype, np.dtype(np.int64) if work.op.name == "argsort" else work.type.dtype)))
            found = work.op.reference(as_strided(x[work.layout.offset:], work.type.shape, [s * x.itemsize for s in work.layout.strides]))
            y[:found.size] = found.reshape(-1)
            return None
        operands = [self.of(int(pointers[s]), d) for s, d in zip(numbers, work.operands, strict=True)]
        count = len(operands) - work.outputs
        interpret_kernel(work, [x.copy() for x in operands[:count]], operands[count:])
        return None

    def _moves(self, pointers, rows, counters, first, count):
        table, counted = pointers, self.of(int(pointers[counters]), np.dtype(np.int64))
        listed = self.of(int(pointers[rows]), np.dtype(np.int64)).reshape(-1, moves.WIDTH)
        for kind, a, b, offset, step, counter in listed[first:first + count].tolist():
            if kind == moves.SET:
                table[a] = table[b] + offset + step * counted[counter]
            elif kind == moves.SWAP:
                table[[a, b]] = table[[b, a]]
            elif kind == moves.ZERO:
                counted[counter] = 0
            elif kind == moves.COUNT:
                counted[counter] += 1
            else:
                self.at(int(table[a]))[:1] = 1


class LazyDriver(Driver):
    """Two devices. fails: what the next calls raise, by what they do; missing: why there is no device."""

    device_class = Interpreting

    def __init__(self, name="lazy"):
        self.local, self.fails, self.why, self.name = threading.local(), {}, "", name
        self.array_class = type("LazyArray", (LazyArray,), {"__slots__": ()})
        self.kind = LazyArrays(self)
        self.found = [self.device_class(self, n, f"{name}:{n}") for n in range(2)]
        self.known = {}
        #: Whether a library computes all products that it can.
        self.library = False

    def missing(self):
        return self.why

    def about(self):
        return {"lazy": "it waits"}

    def device(self, number=None):
        if self.why:
            raise DeviceError(self.why)
        return self.found[self.current() if number is None else number]

    def named(self, label):
        return next(d for d in self.found if d.label == label)

    def number(self, array):
        return array.device.number

    def current(self):
        return getattr(self.local, "number", 0)

    def function(self, work, target, library=True):
        product = library_product(work, tf32=target.tf32) if library and self.library and not isinstance(work, SortTask) else None
        if product is not None:
            return product
        made = Interpreted(work)
        self.known[made.name] = work
        return made

    def build(self, functions, architecture):
        return [Built(b"", 32) for _ in functions]

    def explained(self, error, name, device):
        from nagraph.backends.cuda import cuda_errors

        return cuda_errors.explained(error, name, device)


class LazyBackend(CUDABackend):
    """The CUDA backend over a driver of these."""

    def __init__(self, driver):
        super().__init__()
        self.over, self.name, self.array_kind = driver, driver.name, driver.kind

    @property
    def driver(self):
        return self.over

    def missing(self):
        return self.over.missing()
