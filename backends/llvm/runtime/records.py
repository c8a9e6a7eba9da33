"""Records: where things stand in the memory that threads share, and how driver text names them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum


class Opcode(IntEnum):
    """The instructions' codes; `nagraph.backends.llvm.runtime.assembler` says what they mean."""

    STOP = 0
    PHASE = 1
    CHAIN = 2
    SET = 3
    SWAP = 4
    LOOP = 5
    END = 6
    DECIDE = 7
    JUMP = 8
    COMMIT = 9
    HOST = 10
    DIFFER = 11


#: Alignment of what threads share or work in, in bytes: a line of the caches.
ALIGNMENT = 64
#: What the names of functions begin with, in text, that are seen from outside of a library: the rest is their name there.
EXPORTED = "exported."
#: Words of a launch in the code: kernel, units, grain, chunks, where its argument numbers stand.
LAUNCH_WORDS = 5

#: A context, in 64-bit words: what the threads of a call share. A cache line has eight words, sixteen on some arm64 CPUs; what
#: is written by different threads, or at different times, stands in different lines.
CONTEXT = {
    "next": 0,           # the first chunk that nobody has taken
    "done": 16,          # the chunks that are done
    "generation": 32,    # odd while a call is open for workers to join
    "record": 33,        # the open call's record
    "first": 34,         # the number of its first chunk
    "state": 48,         # 4 * generation + one of STATES
    "finished": 49,      # the last generation of which a thread came to STOP
    "owner": 50,         # 1 while a caller has the context
    "busy": 64,          # workers that may be looking at a record
    "sleeping": 80,      # workers that are asleep, or about to be
    "stop": 81,          # 1: workers shall leave
    "mutex": 96,         # 64 bytes each, as much as any system needs
    "condition": 104,
    "ring": 112,         # the last decisions: 2 * the number of its chunk + the answer
}
DECISIONS = 256
CONTEXT_WORDS = CONTEXT["ring"] + DECISIONS

#: A record: what a call does, and memory for its threads.
RECORD = {name: i for i, name in enumerate((
    "code",              # the instructions
    "slots",             # how many pointers the table has
    "source",            # the table as the caller gave it
    "threads",           # how many threads may take part
    "tables",            # a table for each thread, with the loops' counters behind it; `table_nbytes` apart
    "table_nbytes",
    "scratch",           # scratch memory for each thread, `scratch_nbytes` apart
    "scratch_nbytes",
    "private",           # the context for a call that finds the pool's taken
    "error",             # what a function of Python has raised, else null: type, value, traceback
    "value",
    "trace",
))}

#: What a thread knows of the call it takes part in; on its own stack.
THREAD = {name: i for i, name in enumerate((
    "context", "words", "table", "counters", "memory",
    "call",              # the call's generation
    "base",              # the number of the first chunk of the next phase
    "decisions",         # decisions passed
    "python",            # the interpreter's thread state if signals are to be asked for, else null
    "asked",             # when that was done last
))}

#: What is known of an entry point of a library (`standalone`), and never changes; places and alignments are words of their own.
ENTRY = {name: i for i, name in enumerate((
    "program",           # the instructions
    "places",            # of each pointer of the table: one of PLACES, a number, an offset in bytes
    "masks",             # of each array that the caller gives, inputs first: its alignment in bytes, less one
    "data",              # constants, and weights that are embedded
    "pointers",          # how many pointers the table has
    "inputs",            # how many arrays the caller gives, and how many it wants to have written
    "outputs",
    "most_threads",      # 1 if no phase has work for two
    "table_space",       # bytes of each thread's table with its counters, and of its scratch memory
    "scratch_space",
    "context_at",        # where things stand in the workspace: a record, then these
    "source_at",
    "memory_at",
    "verdict_at",        # the bool that says whether the call ends well; -1 for calls that always do
    "tables_at",         # tables, then scratch memory
))}
PLACES = {name: i for i, name in enumerate(("nowhere", "memory", "input", "output", "data"))}

#: A library's pool, in words: a context, how many threads a call has, and three words for each worker: the pool, its number, its handle.
POOL = {"crew": CONTEXT_WORDS}
WORKER = {name: i for i, name in enumerate(("pool", "number", "handle"))}

_ALL = (CONTEXT, RECORD, THREAD, ENTRY, POOL, WORKER)
FIELDS = {name: word for fields in _ALL for name, word in fields.items()}
assert len(FIELDS) == sum(map(len, _ALL))

#: A call may be abandoned while it is open. It is committed, or abandoned, for good.
OPEN, COMMITTED, ABANDONED = range(3)
#: How far `next` jumps when a call is abandoned: further than any call counts.
BEYOND = 1 << 40


def expand(text: str) -> str:
    """LLVM text in which `%p->field` and `%p->3` stand for the address of a word behind the pointer %p."""
    return "\n".join(line for n, given in enumerate(text.splitlines()) for line in _expanded(given, n))


def _expanded(line: str, number: int) -> Iterable[str]:
    code, comment, _ = line.partition(";")
    for i, (pointer, field) in enumerate(re.findall(r"(%\w+)->(\w+)", code)):
        word = field if field.isdigit() else FIELDS[field]
        yield f"  %w{number}.{i} = getelementptr inbounds i64, ptr {pointer}, i64 {word}"
        code = code.replace(f"{pointer}->{field}", f"%w{number}.{i}", 1)
    yield code + comment
