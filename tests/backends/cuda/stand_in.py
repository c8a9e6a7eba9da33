"""A stand-in for CuPy, as far as the driver calls it: its names, its arguments and its rules, over memory of this CPU.

Launches run the CUDA text on this CPU, at once, or into the graph of a stream that captures. What CuPy or CUDA would refuse is an error: a
stream of another device, a capture on the default stream, a wait while a stream captures, arguments that are no NumPy scalars.
"""

from __future__ import annotations

import ctypes
import types

import numpy as np

from nagraph.backends.cuda.nvrtc import HEADER, HEADERS
from nagraph.backends.gpu.on_cpu.module import Module as Compiled

COUNT = 2
HANDLE = 5


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__(f"cudaErrorOfNumber{status}: it failed")
        self.status = status


class State:
    """What the process has current, what was compiled, what is to fail next."""

    def __init__(self):
        self.device, self.compiled, self.fails, self.launches, self.graphs, self.shared = 0, {}, {}, [], 0, {}
        self.products = 0
        self.current = {n: Stream(null=True) for n in range(COUNT)}

    def do(self, work):
        stream = self.current[self.device]
        if stream.captured is not None:
            stream.captured.append(work)
        else:
            work()


def address(array):
    return array.ctypes.data


class Memory:
    def __init__(self, size):
        if STATE.fails.pop("memory", None):
            raise CUDARuntimeError(2)
        raw = np.full(size + 512, 0xE5, np.uint8)
        self.size, self.device_id = size, STATE.device
        self.held, self.ptr = raw, address(raw) + -address(raw) % 256


class UnownedMemory:
    def __init__(self, ptr, size, owner, device_id=-1):
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id, self.device = mem, mem.ptr + offset, mem.device_id, Device(mem.device_id)

    def copy_from_host_async(self, mem, size, stream=None):
        assert type(mem) is int and isinstance(stream, Stream) and stream is STATE.current[STATE.device]
        STATE.do(lambda: ctypes.memmove(self.ptr, mem, size))


class Pinned(bytearray):
    @property
    def ptr(self):
        return ctypes.addressof((ctypes.c_char * len(self)).from_buffer(self))


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.timed, self.recorded = not disable_timing, False

    def record(self, stream=None):
        self.recorded = True

    def synchronize(self):
        assert STATE.current[STATE.device].captured is None, "waiting is not allowed while a stream captures"

    @property
    def done(self):
        return True


class Stream:
    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr, self.captured = 0 if null else id(self), None
        self.device_id = -1 if null else STATE.device
        self.waited = []

    def __enter__(self):
        assert self.device_id in (-1, STATE.device), "the stream is of another device"
        self._before, STATE.current[STATE.device] = STATE.current[STATE.device], self
        return self

    def __exit__(self, *error):
        STATE.current[STATE.device] = self._before

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        assert event.recorded
        self.waited.append(event)

    def synchronize(self):
        assert self.captured is None

    def begin_capture(self, mode=None):
        assert self.ptr not in (0, 1), "cannot capture on the default (legacy) stream"
        self.captured = []

    def end_capture(self):
        works, self.captured = self.captured, None
        STATE.graphs += 1
        return Graph(works)


class Graph:
    def __init__(self, works):
        self.works = works

    def launch(self, stream=None):
        if "launch" in STATE.fails:
            raise STATE.fails.pop("launch")
        for work in self.works:
            work()


class Device:
    def __init__(self, device=None):
        self.id = STATE.device if device is None else device
        self.compute_capability, self.mem_info = "90", (1 << 30, 2 << 30)

    def __enter__(self):
        self._before, STATE.device = STATE.device, self.id
        return self

    def __exit__(self, *error):
        STATE.device = self._before


class Module:
    def load(self, cubin):
        self.name = cubin.decode()

    def get_function(self, name):
        assert name == self.name
        return Function(name)


class Function:
    def __init__(self, name):
        self.name, self.ptr = name, id(self)

    def __call__(self, grid, block, args, shared_mem=0, stream=None):
        assert type(grid) is type(block) is tuple and all(type(a) in (np.uint64, np.int32) for a in args)
        assert shared_mem <= STATE.shared.get(self.ptr, 48 << 10), "it has to be told of so much shared memory first"
        table, *slots = map(int, args)

        def run():
            STATE.launches.append(self.name)
            STATE.compiled[self.name].launch(self.name, grid, block, shared_mem, table, slots)

        if "launch" in STATE.fails:
            raise STATE.fails.pop("launch")
        STATE.do(run)


class Flags(types.SimpleNamespace):
    pass


class ndarray:
    def __init__(self, shape, dtype=float, memptr=None, strides=None, base=None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.size, self.itemsize = int(np.prod(self.shape, dtype=np.int64)), self.dtype.itemsize
        self.nbytes, self.base = self.size * self.itemsize, base
        plain = tuple(int(np.prod(self.shape[a + 1:], dtype=np.int64)) * self.itemsize for a in range(len(self.shape)))
        self.strides = plain if strides is None else strides
        self.data = MemoryPointer(Memory(self.nbytes), 0) if memptr is None else memptr
        self._c_contiguous = self.strides == plain or not self.size
        self.flags = Flags(c_contiguous=self._c_contiguous, owndata=base is None)
        self.device = Device(self.data.device_id)

    def view(self):
        raw = np.frombuffer((ctypes.c_char * max(1, self.nbytes + 4096)).from_address(self.data.ptr), np.uint8)
        return np.lib.stride_tricks.as_strided(raw[:self.nbytes or 1].view(self.dtype) if self.size else np.zeros(0, self.dtype),
                                               self.shape, self.strides)

    def get(self):
        return self.view().copy()

    def copy(self, order="C"):
        made = ndarray(self.shape, self.dtype)
        made.view()[...] = self.view()
        return made

    def row(self, n):
        pointer = MemoryPointer(self.data.mem, self.data.ptr - self.data.mem.ptr + n * self.strides[0])
        return ndarray(self.shape[1:], self.dtype, pointer, self.strides[1:], self)

    def T(self):
        return ndarray(self.shape[::-1], self.dtype, self.data, self.strides[::-1], self)


def memcpy(dst, src, size, kind, stream):
    assert kind == 2 and stream == STATE.current[STATE.device].ptr
    STATE.do(lambda: ctypes.memmove(dst, src, size))


def wait():
    assert STATE.current[STATE.device].captured is None


def set_attribute(function, attribute, value):
    assert attribute == 8
    STATE.shared[function] = value


class Cublas(types.ModuleType):
    """cuBLAS's meaning of the arguments that it is given: columns lie side by side in memory."""

    def __init__(self):
        super().__init__("cublas")
        self.mode = 3  # as another user of the handle left it

    def getMathMode(self, handle):
        return self.mode

    def setMathMode(self, handle, mode):
        self.mode = mode

    def gemmStridedBatchedEx(self, handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, step_a, b, type_b, ldb, step_b,
                             beta, c, type_c, ldc, step_c, batch, sums, algorithm):
        assert (handle, self.mode, algorithm) == (HANDLE, 0, -1) and sums in (68, 70)
        dtypes = [np.dtype({0: np.float32, 1: np.float64, 2: np.float16}[t]) for t in (type_a, type_b, type_c)]

        def matrix(at, dtype, rows, columns, pitch):
            raw = np.frombuffer((ctypes.c_char * ((columns - 1) * pitch + rows) * dtype.itemsize).from_address(at), dtype)
            return np.lib.stride_tricks.as_strided(raw, (rows, columns), (dtype.itemsize, pitch * dtype.itemsize))

        def run():
            STATE.products += 1
            for i in range(batch):
                x, y, z = (at + i * step * d.itemsize for at, step, d in zip((a, b, c), (step_a, step_b, step_c), dtypes))
                left = matrix(x, dtypes[0], k, m, lda).T if turn_a else matrix(x, dtypes[0], m, k, lda)
                right = matrix(y, dtypes[1], n, k, ldb).T if turn_b else matrix(y, dtypes[1], k, n, ldb)
                matrix(z, dtypes[2], m, n, ldc)[...] = left.astype("f8") @ right.astype("f8")

        STATE.do(run)


def built(functions, architecture):
    """In the place of NVRTC: the code of a function is its name."""
    from nagraph.backends.cuda.driver import Built

    new = [f for f in functions if f.name not in STATE.compiled]
    if new:
        module = Compiled(new, header=HEADER, folders=[HEADERS])
        STATE.compiled |= {f.name: module for f in new}
    return [Built(f.name.encode(), 32) for f in functions]


def cupy():
    """The module, and a new state."""
    global STATE
    made = types.ModuleType("cupy")
    STATE = State.__new__(State)
    STATE.device = 0
    STATE.__init__()
    STATE.compiled |= COMPILED
    made.ndarray, made.__version__, made.state = ndarray, "0.0", STATE
    made.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    made.from_dlpack = lambda x: x.array
    made.cuda = types.SimpleNamespace(
        Memory=Memory, MemoryPointer=MemoryPointer, UnownedMemory=UnownedMemory, Event=Event, Stream=Stream, Device=Device, Module=Module,
        alloc_pinned_memory=Pinned, get_current_stream=lambda: STATE.current[STATE.device], get_elapsed_time=lambda a, b: 1.0,
        driver=types.SimpleNamespace(funcSetAttribute=set_attribute), device=types.SimpleNamespace(get_cublas_handle=lambda: HANDLE),
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDevice=lambda: STATE.device, setDevice=lambda n: setattr(STATE, "device", n),
            getDeviceCount=lambda: COUNT, deviceSynchronize=wait, memcpyAsync=memcpy, memcpyDeviceToHost=2,
            driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13020,
            getDeviceProperties=lambda n: {"name": b"stand-in", "multiProcessorCount": 2, "l2CacheSize": 1 << 12}))
    return made


#: What was compiled, for all tests of a process.
COMPILED = {}
STATE = None
