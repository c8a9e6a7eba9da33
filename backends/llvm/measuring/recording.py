"""Recording: a call of a program whose launches write down when each chunk begins and ends, and on which thread.

The program that people run stays as it is. A second one is made of it, with the same chunks, in which every launch calls
one function, the recorder; this calls the kernel and writes an event of eight words into a log that all threads share.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.backends.llvm.native.machine_code import object_code
from nagraph.backends.llvm.program.encoding import encoded
from nagraph.backends.llvm.program.loading import MachineCode
from nagraph.backends.llvm.runtime.pool import aligned_words, pool
from nagraph.backends.llvm.runtime.records import expand
from nagraph.backends.llvm.runtime.waiting import CLOCK, NOW
from nagraph.errors import NagraphError
from nagraph.measuring.recording import EVENT, Recording
from nagraph.program.instructions import Instruction, Launch, Phase

#: Words of an event and of the log's head: how many events there were, and how many have space.
WORDS = EVENT.itemsize // 8
#: Events that a log has space for at first, and at most.
SPACE, MOST = 1 << 14, 1 << 21
#: Argument numbers that the recorder takes for itself: the log, the launch, the kernel.
OWN = 3

#: The recorder, called NAME, by the clock CLOCK.
RECORDER = f"""
declare i64 @pthread_self()

define void @NAME(ptr %table, ptr %arguments, i64 %start, i64 %stop, ptr %scratch) nounwind {{
entry:
  %log = load ptr, ptr %arguments->0
  %launch = load i64, ptr %arguments->1
  %kernel = load ptr, ptr %arguments->2
  %its = getelementptr inbounds i64, ptr %arguments, i64 {OWN}
  %began = call i64 @now(i32 CLOCK)
  call void %kernel(ptr %table, ptr %its, i64 %start, i64 %stop, ptr %scratch)
  %ended = call i64 @now(i32 CLOCK)
  %number = atomicrmw add ptr %log, i64 1 monotonic
  %space = load i64, ptr %log->1
  %fits = icmp slt i64 %number, %space
  br i1 %fits, label %write, label %out
write:
  %behind = mul i64 %number, {WORDS}
  %at = add i64 %behind, {WORDS}
  %event = getelementptr inbounds i64, ptr %log, i64 %at
  %thread = call i64 @pthread_self()
  store i64 %launch, ptr %event->0
  store i64 %began, ptr %event->1
  store i64 %ended, ptr %event->2
  store i64 %start, ptr %event->3
  store i64 %stop, ptr %event->4
  store i64 %thread, ptr %event->5
  br label %out
out:
  ret void
}}
"""


@functools.cache
def _recorder(clock: int) -> MachineCode:
    name = f"recorder_{clock}"
    text = expand(NOW + RECORDER.replace("NAME", name).replace("CLOCK", str(clock)))
    return MachineCode(name, text, object_code(text))


class Recorded:
    """A program that records: the same launches, each by way of the recorder. `run` is a `Program`'s; `record` records a call.

    clock: by which chunks begin and end: that of the machine, or, for times that other processes don't change, of each thread's own work.
    """

    def __init__(self, program: Sequence[Instruction], slots: int, clock: int = CLOCK):
        self._make = lambda log: encoded(_recorded(program, log, clock), slots)
        self._log = self._new(SPACE)

    def _new(self, space: int) -> Any:
        log = aligned_words(WORDS * (space + 1))
        log[1] = space
        self._native = self._make(log.ctypes.data)
        return log

    def run(self, table: Any, threads: int | None) -> None:
        self._native.run(table, threads)

    def record(self, call: Callable[[], Any]) -> Recording:
        """The recording of `call`, called again with a larger log if there was no space. NagraphError if the largest is too small."""
        while True:
            self._log[0] = 0
            begin = time.clock_gettime_ns(CLOCK)
            call()
            end = time.clock_gettime_ns(CLOCK)
            count, space = int(self._log[0]), int(self._log[1])
            if count <= space:
                break
            if count > MOST:
                raise NagraphError(f"a profile has space for {MOST:,} chunks, this call has {count:,}; "
                                   "profile one with fewer iterations of its loops")
            self._log = self._new(count * 5 // 4)
        events = self._log[WORDS:WORDS * (count + 1)].copy().view(EVENT)
        return Recording(begin, end, events[np.argsort(events["begin"], kind="stable")], _names())


def _names() -> dict[int, str]:
    """The threads that may take part in a call, by their idents: who calls, and the workers."""
    names = {w.ident: f"worker {n}" for n, w in enumerate(pool().workers, 1) if w.ident is not None}
    return {threading.get_ident(): "caller", **names}


def _recorded(program: Sequence[Instruction], log: int, clock: int) -> list[Instruction]:
    """The program with the recorder in the place of each kernel."""
    recorder = _recorder(clock)
    found: list[Instruction] = []
    count = 0

    def recorded(launch: Launch) -> Launch:
        nonlocal count
        slots = (log, count, launch.function.code.address, *launch.slots)
        count += 1
        return launch._replace(function=launch.function._replace(code=recorder), slots=slots)

    for i in program:
        found.append(Phase(tuple(map(recorded, i.launches))) if isinstance(i, Phase) else i)
    return found
