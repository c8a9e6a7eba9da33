"""The driver: native code in which all threads of a call interpret its program, synchronised on finished chunks.

A phase is cut into chunks. A thread takes the number of the next chunk from the counter `next`, computes it, and adds 1
to the counter `done`; the phase is over when all its chunks are done, whoever did them. So a thread that comes late, or
that a busy machine keeps from running, holds nobody up: it finds all numbers taken and skips ahead. Both counters only
ever grow, from call to call as well: even a thread that wakes up in a call long ended can do no harm.
"""

from __future__ import annotations

import llvmlite.binding as llvm

from nagraph.backends.llvm.runtime.interpreter import MOVES, interpreter
from nagraph.backends.llvm.runtime.phases import PHASES
from nagraph.backends.llvm.runtime.worker import WORKER

DECLARATIONS = """
declare i32 @sched_yield()
declare ptr @memcpy(ptr, ptr, i64)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i64 @llvm.readcyclecounter()
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @PyErr_CheckSignals()
declare PAUSING
"""


def _pause() -> str:
    """What a waiting thread does, in a way that leaves the core to its sibling."""
    if llvm.get_default_triple().startswith("x86_64"):
        return "call void @llvm.x86.sse2.pause()"
    return "call void @llvm.aarch64.hint(i32 1)"


def _unlocked(name: str, function: str, count: int) -> str:
    """A function that calls another with the interpreter's lock released, and a place for the thread's state behind its arguments."""
    given = ", ".join(f"ptr %a{i}" for i in range(count))
    return f"""
define i64 @{name}({given}) nounwind {{
  %cell = alloca ptr
  %state = call ptr @PyEval_SaveThread()
  store ptr %state, ptr %cell
  %left = call i64 @{function}({given}, ptr %cell)
  %last = load ptr, ptr %cell
  call void @PyEval_RestoreThread(ptr %last)
  ret i64 %left
}}
"""


def driver_text() -> str:
    """The LLVM text of the driver.

    i64 together(ptr context, ptr job): runs a program by all threads; 0, or 1 if a signal's handler raised and it was abandoned.
    i64 single(ptr code, ptr args, ptr table, ptr scratch): the same on one thread, without counters.
    These two are entered with the interpreter's lock held, and release it while they work.
    void work(ptr context, i64 number): what a worker does, until the context's stop is set.
    void wake(ptr context): lets sleeping workers look for work.
    """
    calls = _unlocked("together", "conduct", 2) + _unlocked("single", "alone", 4)
    text = calls + DECLARATIONS + PHASES + MOVES + interpreter("drive") + interpreter("alone") + WORKER
    return text.replace("PAUSING", _pause()[5:].replace("i32 1", "i32")).replace("PAUSE", _pause())
