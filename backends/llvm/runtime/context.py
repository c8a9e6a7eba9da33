"""The context of a pool: the words that its threads share, and the codes of instructions."""

from __future__ import annotations

#: Places in a context, in 64-bit words. What different threads write stands in different cache lines.
NEXT, DONE, GENERATION, MADE, SLEEPING, STOP, BUSY = 0, 8, 16, 24, 32, 33, 40
#: The call in hand: program, arguments, the table to copy and its length, the threads' tables, their step, scratch, its step,
#: the counters' and the decisions' start, how many threads may take part.
CODE, ARGS, TABLE, SLOTS, TABLES, TABLE_STEP, SCRATCH, SCRATCH_STEP, BASE, DECIDED, LIMIT = range(48, 59)
MUTEX, CONDITION, RING = 64, 80, 96
#: Decisions that are remembered; and the words of a context.
DECISIONS = 256
WORDS = RING + DECISIONS
#: How far `next` jumps when a call is abandoned.
BEYOND = 1 << 40

#: The instructions' codes; see `nagraph.backends.llvm.runtime.encoding`.
PHASE, POINT, SWAP, LOOP, END, DECIDE, JUMP, COMMIT, HALT = range(9)
#: The most loops of a program.
LOOPS = 256


def word(pointer: str, number: int) -> str:
    """The text of the address of a word behind a pointer."""
    return f"getelementptr inbounds i64, ptr {pointer}, i64 {number}"
