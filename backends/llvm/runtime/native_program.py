"""A program that runs: its words, memory for the threads, and calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.program import Instruction
from nagraph.backends.llvm.runtime.encoding import encode
from nagraph.backends.llvm.runtime.pool import Pool, default_threads, native, pool

ALIGNMENT = 64


def aligned_bytes(nbytes: int) -> tuple[Any, int]:
    """Memory, and the address in it from which on `nbytes` bytes are aligned."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    return raw, -(-raw.ctypes.data // ALIGNMENT) * ALIGNMENT


class _Memory:
    """What the threads of a call need beside the arrays: a table each, and scratch."""

    def __init__(self, slots: int, scratch_nbytes: int, threads: int):
        self.table_step = -(-max(slots, 1) * 8 // ALIGNMENT) * ALIGNMENT
        self.scratch_step = -(-max(scratch_nbytes, 1) // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self.threads = threads
        self._tables, self.tables = aligned_bytes(self.table_step * threads)
        self._scratch, self.scratch = aligned_bytes(self.scratch_step * threads)


class NativeProgram:
    """run(table) runs the program on pointers, by the pool's threads if it is free, else by the caller's alone."""

    def __init__(self, program: Sequence[Instruction], slots: int, scratch_nbytes: int, threads: int | None = None):
        self.code, self.arguments = encode(program)
        self.slots, self.scratch_nbytes = slots, scratch_nbytes
        self.threads = threads or default_threads()
        #: Memory of calls by the pool, and of a call by its caller alone.
        self._memory: _Memory | None = None
        self._solo: _Memory | None = None
        self._lock = threading.Lock()
        self._pool: Pool | None = None

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.retire((self.code, self.arguments, self._memory, self._start))

    def run(self, table: Any) -> None:
        """`table`: int64 addresses, which the program may change. Raises what a signal handler raised meanwhile."""
        if self.threads > 1:
            crew = pool()
            if crew.lock.acquire(blocking=False):
                try:
                    self._together(crew, table)
                finally:
                    crew.lock.release()
                return
        mine = self._lock.acquire(blocking=False)
        try:
            if mine and self._solo is None:
                self._solo = _Memory(1, self.scratch_nbytes, 1)
            memory = self._solo if mine and self._solo is not None else _Memory(1, self.scratch_nbytes, 1)
            native().single(self.code.ctypes.data, self.arguments.ctypes.data, table.ctypes.data, memory.scratch)
        finally:
            if mine:
                self._lock.release()

    def _together(self, crew: Pool, table: Any) -> None:
        self._pool = crew
        crew.grow(self.threads)
        if self._memory is None:
            self._memory = _Memory(self.slots, self.scratch_nbytes, self.threads)
            memory = self._memory
            self._start = np.empty(self.slots, np.int64)
            arrays = (x.ctypes.data for x in (self.code, self.arguments, self._start))
            self._job = np.array([*arrays, self.slots, memory.tables, memory.table_step, memory.scratch, memory.scratch_step, 0, 0,
                                  self.threads], np.int64)
        np.copyto(self._start, table)  # workers may look at it even when the caller's is gone
        crew.native.together(crew.address, self._job.ctypes.data)
