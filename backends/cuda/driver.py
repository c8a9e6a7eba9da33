"""The driver: the seam between executables and devices. Beyond it nobody knows CuPy, and no test needs a device.

    Driver    which devices there are, how text becomes code for them, what an error of theirs means
    Device    one of them: memory, streams, launches, captured graphs, time

All work goes to the stream that is current on the calling thread, and runs there in the order in which it was asked for; only `wait`,
the answers of `fetch`, and `milliseconds` wait for it. `cupy_driver` has real devices. Tests have some that run the same text on this CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from nagraph.arrays import ArrayKind
from nagraph.backends.gpu.target import GpuTarget
from nagraph.errors import NagraphError
from nagraph.ir.types import TensorType
from nagraph.kernel.form import Kernel
from nagraph.program.instructions import SortTask

Array = Any
Words = np.ndarray[Any, np.dtype[np.int64]]


class Built(NamedTuple):
    """A built function is its machine code, with the registers of a thread, the bytes that it spills, and the cache's name for it."""

    code: bytes
    registers: int = 0
    spilled_nbytes: int = 0
    file: str = ""


class Function(NamedTuple):
    """A function that devices run: its name in the code, and how it is launched (`nagraph.backends.gpu.emit.DeviceFunction`)."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_nbytes: int
    scratch_nbytes: int
    built: Built

    @classmethod
    def of(cls, text: Any, built: Built) -> Function:
        """A function of GPU text, built."""
        return cls(text.name, text.grid, text.block, text.shared_nbytes, text.scratch_nbytes, built)

    @property
    def threads(self) -> int:
        """The threads of a block."""
        x, y, z = self.block
        return x * y * z


class Memory(Protocol):
    """Memory of a device, which is given back with the object."""

    @property
    def address(self) -> int:
        """Where it begins, at a multiple of 256."""


class Table(Memory, Protocol):
    """A table of pointers in a device's memory."""

    def write(self, words: Words) -> None:
        """Copy all of its words to the device, on the current stream; they may be changed as soon as this returns."""


class Device(ABC):
    """A device."""

    number: int
    #: The name of its kind of arrays and its number: cuda:0.
    label: str
    #: What it is: NVIDIA H200.
    name: str
    #: What code is built for: sm_90.
    architecture: str
    multiprocessors: int
    #: The bytes of its last cache.
    cache_nbytes: int

    @abstractmethod
    def active(self) -> AbstractContextManager[Any]:
        """The device as the calling thread's current one."""

    # -- arrays ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def addresses(self, arrays: Sequence[Any], wanted: Sequence[tuple[Any, ...]]) -> list[int] | None:
        """Where these begin, if they are row-major arrays on this device, at multiples of 16, just as wanted; else None.

        wanted: for each what `wanted` makes of its type.
        """

    @abstractmethod
    def wanted(self, type: TensorType) -> tuple[Any, ...]:
        """What `addresses` compares an array with."""

    @abstractmethod
    def owns(self, arrays: Sequence[Array]) -> bool:
        """Whether no array shows memory that is another one's."""

    @abstractmethod
    def pointers(self, arrays: Sequence[Array]) -> list[int]:
        """Where arrays of this device begin."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array, of whatever content."""

    # -- streams --------------------------------------------------------------------------------------------------

    @abstractmethod
    def stream(self) -> Any:
        """The calling thread's current stream; one stream has one object, or equal ones."""

    @abstractmethod
    def follow(self, stream: Any) -> None:
        """Let what is asked for on the current stream from now on wait for all that is queued on another one."""

    @abstractmethod
    def wait(self) -> None:
        """Return when all that is queued on the device is done."""

    # -- memory ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def memory(self, nbytes: int) -> Memory:
        """New memory, of whatever content. DeviceMemoryError if there is none left."""

    @abstractmethod
    def table(self, count: int) -> Table:
        """A new table of so many pointers."""

    @abstractmethod
    def put(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Copy an array's bytes to memory; it may be changed as soon as this returns."""

    @abstractmethod
    def fetch(self, address: int) -> Callable[[], bool]:
        """Copy a bool to the host, which need not wait for it; the function that is returned does, and gives it."""

    # -- launches -------------------------------------------------------------------------------------------------

    @abstractmethod
    def load(self, function: Function) -> Any:
        """A function, ready to be launched on this device."""

    @abstractmethod
    def bind(self, loaded: Any, table: int, numbers: Sequence[int]) -> Callable[[], None]:
        """The launch of a function on the table at this address and numbers, as something to call: it queues it on the current stream."""

    @abstractmethod
    def product(self, product: Any) -> Callable[[Sequence[int]], None]:
        """A product that a library computes: a function of the addresses of its operands that queues it on the current stream."""

    @abstractmethod
    def capture(self, launches: Sequence[Callable[[], None]]) -> Callable[[], None]:
        """Launches as one graph, of which none runs now: what is returned queues them all on the current stream, in their order."""

    # -- time -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def mark(self) -> Any:
        """A mark behind what is queued on the current stream."""

    @abstractmethod
    def milliseconds(self, first: Any, last: Any) -> float:
        """The time between two marks, once both are passed."""


class Driver(ABC):
    """A driver is the way to devices of one kind."""

    #: The kind of arrays that live on its devices.
    kind: ArrayKind

    @abstractmethod
    def missing(self) -> str:
        """Why there is no device to be used, as one sentence that says what to install or to change; "" if there is one."""

    @abstractmethod
    def about(self) -> dict[str, str]:
        """Devices, driver and versions, as far as they are there, by name."""

    @abstractmethod
    def device(self, number: int | None = None) -> Device:
        """The device of this number; the calling thread's current one for None. DeviceError if there is none."""

    @abstractmethod
    def number(self, array: Array) -> int:
        """The number of the device on which an array lives."""

    @abstractmethod
    def current(self) -> int:
        """The number of the calling thread's current device."""

    @abstractmethod
    def function(self, work: Kernel | SortTask, target: GpuTarget, library: bool = True) -> Any:
        """What launches of a kernel, or of a sort, call: a function of GPU text, or a product that a library computes, if one may."""

    @abstractmethod
    def build(self, functions: Sequence[Any], architecture: str) -> list[Built]:
        """The code of functions of GPU text (`DeviceFunction`) for an architecture; of each text once."""

    @abstractmethod
    def explained(self, error: Exception, name: str, device: Device | None) -> NagraphError | None:
        """What an error of the library or the device means for a user of the program of this name; None if it is none of these."""
