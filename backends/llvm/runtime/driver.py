"""The driver: native code in which all threads of a call interpret its program, synchronised on finished chunks.

A phase is cut into chunks, numbered on from the phase before. A thread takes the next number from the counter `next`,
does that chunk, and adds it to the counter `done`; the phase is over when `done` has come to its end, whoever did the
chunks. So a thread that comes late, or that a busy machine keeps from running, holds nobody up: it finds all numbers
taken and skips ahead. Both counters only grow, from call to call as well: a thread that wakes up in a call long ended
finds no chunk there, sees that the generation is another, and leaves.

    next   0 1 2 3 | 4 | 5 6 7 8 9          chunks of three phases
                         ^ next = 6: 5 is taken, 6 is free
    done = 5: the first two phases are over, nobody waits there any more

`%p->field` is a word of memory: see `nagraph.backends.llvm.runtime.records`.
"""

from __future__ import annotations

from nagraph.backends.llvm.runtime.callbacks import CALLBACKS
from nagraph.backends.llvm.runtime.calls import CALLS, workers
from nagraph.backends.llvm.runtime.interpreter import INTERPRETER
from nagraph.backends.llvm.runtime.phases import PHASES
from nagraph.backends.llvm.runtime.records import expand
from nagraph.backends.llvm.runtime.waiting import CLOCK, NOW, WAITING, pause


def driver_text() -> str:
    """The driver's functions that others may call.

    void call(ptr context, ptr record, i64 signals): a call, from Python with its lock held, which is released meanwhile.
    It takes the context if that is there and free, else the record's own. If `signals`, Python's signals are asked for.
    void work(ptr context, i64 number): what worker `number` (1, 2, ...) does until the context's `stop` is set.
    void wake(ptr context): makes sleeping workers look.
    i64 quiet(ptr context): 1 if no worker is looking at the record of a call that has ended.
    """
    return expand(pause() + NOW + WAITING + CALLBACKS + PHASES + INTERPRETER + CALLS + workers(CLOCK))
