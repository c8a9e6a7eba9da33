"""Object code of entry points, linked and called: arrays in, arrays out."""

from __future__ import annotations

import ctypes
import functools
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from nagraph.backends.llvm.ahead_of_time.entries import Entry, EntryPoint
from nagraph.backends.llvm.ahead_of_time.objects import NativeObject, native_object
from nagraph.backends.llvm.text.machines import machine
from tests.tools import tool

Array = np.ndarray[Any, Any]


@functools.cache
def machines() -> tuple[str, ...]:
    """The names of the machines whose code runs here."""
    features = llvm.get_host_cpu_features()
    levels = {"x86-64-v2": "sse4.2", "x86-64-v3": "fma", "x86-64-v4": "avx512vl"}
    return ("native", *(name for name, feature in levels.items() if features.get(feature)))


class Linked:
    """A linked library, and calls of its entry points."""

    def __init__(self, made: NativeObject, folder: pathlib.Path, name: str = "it"):
        self.made = made
        (folder / f"{name}.o").write_bytes(made.content)
        files = "-o", folder / f"{name}.so", folder / f"{name}.o"
        subprocess.run([tool("gcc"), "-shared", *files, "-lm", "-lpthread", "-Wl,-z,defs"], check=True)
        self.library = ctypes.CDLL(str(folder / f"{name}.so"))
        self.points = {p.symbol: p for p in made.entries}
        for f in (*(f"{s}_workspace_nbytes" for s in self.points), "it_pool_nbytes"):
            getattr(self.library, f).restype = ctypes.c_size_t
        self.library.it_pool_start.restype = ctypes.c_void_p

    @contextmanager
    def pool(self, threads: int):
        memory = np.full(self.library.it_pool_nbytes(threads), 0xAA, np.uint8)
        pool = self.library.it_pool_start(ctypes.c_void_p(memory.ctypes.data), threads)
        assert self.library.it_pool_threads(ctypes.c_void_p(pool)) == threads
        yield pool
        self.library.it_pool_stop(ctypes.c_void_p(pool))

    def result(self, inputs: Sequence[Array], outputs: Sequence[Array], pool: int = 0, threads: int = 1, symbol: str = "it_run",
               missing: int = 0) -> int:
        """What a call returns. missing: bytes that its workspace lacks."""
        point: EntryPoint = self.points[symbol]
        nbytes = getattr(self.library, f"{symbol}_workspace_nbytes")(threads)
        assert nbytes == point.workspace_nbytes(threads)
        workspace = np.full(nbytes - missing, 0xAA, np.uint8)
        addresses = [(ctypes.c_void_p * max(len(arrays), 1))(*(a.ctypes.data for a in arrays)) for arrays in (inputs, outputs)]
        memory = ctypes.c_void_p(workspace.ctypes.data), ctypes.c_size_t(workspace.nbytes)
        found: int = getattr(self.library, symbol)(*addresses, *memory, ctypes.c_void_p(pool))
        return found

    def __call__(self, *inputs: Array, threads: int = 1, symbol: str = "it_run") -> list[Array]:
        """The outputs of one call."""
        outputs = [np.full(v.shape, 77, v.dtype) for v in self.points[symbol].graph.outputs]
        if threads == 1:
            assert self.result(inputs, outputs, symbol=symbol) == 0
        else:
            with self.pool(threads) as pool:
                assert self.result(inputs, outputs, pool, threads, symbol) == 0
        return outputs


def linked(executable: Any, folder: pathlib.Path, target: str = "native", donations: Mapping[int, int] | None = None) -> Linked:
    """An executable's program, for a machine, as a library of one entry point."""
    return Linked(native_object("it", [Entry("it_run", executable.graph, donations or {})], machine(target)), folder)
