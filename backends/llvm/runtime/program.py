"""Programs that run: the words of the instructions, memory for the threads of a call, and calls from Python."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.runtime.assembler import Words, check, instructions
from nagraph.backends.llvm.runtime.pool import Pool, aligned_bytes, aligned_words, default_threads, driver, pool
from nagraph.backends.llvm.runtime.records import ALIGNMENT, CONTEXT_WORDS, RECORD, Opcode


class CallMemory:
    """What a call needs beside the arrays: a record, and for each thread a table, counters and scratch memory."""

    def __init__(self, code: Words, slots: int, counters: int, scratch_nbytes: int, threads: int, keepalive: Any = None):
        step = -(-(slots + counters) * 8 // ALIGNMENT) * ALIGNMENT
        space = -(-scratch_nbytes // ALIGNMENT) * ALIGNMENT
        self.source = np.zeros(slots, np.int64)
        tables, private = aligned_words(step // 8 * threads), aligned_words(CONTEXT_WORDS)
        scratch, start = aligned_bytes(space * threads)
        values = {"code": code.ctypes.data, "slots": slots, "source": self.source.ctypes.data, "threads": threads,
                  "tables": tables.ctypes.data, "table_nbytes": step, "scratch": start, "scratch_nbytes": space,
                  "private": private.ctypes.data, "error": 0, "value": 0, "trace": 0}
        record = np.array([values[name] for name in RECORD], np.int64)
        self.address: int = record.ctypes.data
        self._parts = (code, self.source, tables, private, scratch, record, keepalive)
        #: The pool that has had this memory, if one had.
        self.pool: Pool | None = None

    def __del__(self) -> None:
        crew: Pool | None = getattr(self, "pool", None)  # none if there was no memory for all of it
        if crew is not None:
            crew.retire(self._parts)


class Program:
    """A program of `slots` pointers; each thread has `scratch_nbytes` of scratch memory, aligned to 64 bytes.

    code: the words of an `Assembler`. keepalive: what must live as long as somebody may call the kernels.
    """

    def __init__(self, code: Words | Sequence[int], slots: int, scratch_nbytes: int = 0, keepalive: Any = None):
        self.code: Words = np.ascontiguousarray(code, np.int64)
        self.slots, self.scratch_nbytes, self.keepalive = slots, scratch_nbytes, keepalive
        check(self.code, slots)
        found = list(instructions(self.code))
        #: Whether there is work for a second thread at all.
        self.parallel = any(i.op is Opcode.PHASE for i in found)
        self._counters = 1 + max((i.operands[0] for i in found if i.op is Opcode.LOOP), default=0)
        #: Memory that no call has at the moment, by number of threads.
        self._free: dict[int, list[CallMemory]] = {}

    def run(self, table: Words, threads: int | None = None) -> None:
        """Run on the pointers in `table`: with the pool's workers if it is free, else on the caller's thread alone.

        table: int64[slots] of addresses, left as it is. threads: None for as many as there are cores.
        Raises what a function that was told of an array raised; what a signal handler raised, if that was before the
        program's COMMIT or after its end; MemoryError.
        """
        if len(table) != self.slots:
            raise ValueError(f"a program of {self.slots} pointers got a table of {len(table)}")
        if threads is not None and threads < 1:
            raise ValueError(f"a call needs at least one thread, got {threads}")
        threads = 1 if not self.parallel else threads or default_threads()
        free = self._free.setdefault(threads, [])
        memory = _pop(free) or self._memory(threads)
        memory.source[:] = table
        shared = None
        if threads > 1:
            crew = memory.pool = pool()
            crew.grow(threads)
            shared = crew.address
        driver().call(shared, memory.address, threading.get_ident() == threading.main_thread().ident)
        free.append(memory)

    def _memory(self, threads: int) -> CallMemory:
        return CallMemory(self.code, self.slots, self._counters, self.scratch_nbytes, threads, self.keepalive)


def _pop(free: list[CallMemory]) -> CallMemory | None:
    try:
        return free.pop()
    except IndexError:
        return None
