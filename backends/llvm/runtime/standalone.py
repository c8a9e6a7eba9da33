"""The runtime without Python: what object code needs that calls programs from C, in any process, on any machine.

It is the same interpreter. The caller's world has no lock, no signals and no errors to raise, so no call is ever abandoned. Whatever a call
needs is in memory that its caller gives: a workspace, and, to have more threads than the caller's own, a pool. So nothing is global, and
calls may go on at one time, each in its own workspace. A call returns when no worker can look at its workspace any more.
"""

from __future__ import annotations

from enum import IntEnum

from nagraph.backends.llvm.runtime.calls import CALLS, workers
from nagraph.backends.llvm.runtime.interpreter import INTERPRETER
from nagraph.backends.llvm.runtime.library_pool import pools
from nagraph.backends.llvm.runtime.phases import PHASES
from nagraph.backends.llvm.runtime.records import ALIGNMENT, CONTEXT_WORDS, PLACES, expand
from nagraph.backends.llvm.runtime.waiting import NOW, WAITING, pause


class Result(IntEnum):
    """What a call returns."""

    OK = 0
    POINTER = 1      # a pointer is null, or not aligned to its elements
    WORKSPACE = 2    # the workspace is null, or too small for the threads of the pool
    LABEL = 3        # a class label is no class: what a loss checks


#: The caller's world, of which there is nothing to know.
_WORLD = """
define internal ptr @depart() nounwind {
  ret ptr null
}
define internal void @attend(ptr %me, ptr %left, i64 %signals) nounwind {
  ret void
}
define internal ptr @enter(ptr %me) nounwind {
  ret ptr null
}
define internal void @exit(ptr %outer) nounwind {
  ret void
}
define internal void @arrive(ptr %left, ptr %record) nounwind {
  ret void
}
define internal i1 @listen(ptr %me) nounwind {
  ret i1 true
}
define internal i1 @abandoned(ptr %me) nounwind {
  ret i1 false
}
define internal void @settle(ptr %me) nounwind {
  ret void
}
define internal i1 @commit(ptr %me) nounwind {
  ret i1 true
}
define internal i1 @host(ptr %me, ptr %at) nounwind {
  ret i1 false
}
"""

#: A call whose threads are one: it never waits.
_ALONE = """
define internal void @pause() nounwind {
  ret void
}
define internal i32 @sched_yield() nounwind {
  ret i32 0
}
define internal i1 @await(ptr %me, i64 %end) nounwind {
  ret i1 true
}
define internal void @wake(ptr %context) nounwind {
  ret void
}
define internal void @closed(ptr %context) nounwind {
  ret void
}
"""

#: Once the call is closed nobody joins it: wait for those that have.
_CLOSED = """
define internal void @closed(ptr %context) nounwind {
entry:
  br label %look
look:
  %n = call i64 @quiet(ptr %context)
  %quiet = icmp ne i64 %n, 0
  br i1 %quiet, label %out, label %wait
wait:
  call void @pause()
  %y = call i32 @sched_yield()
  br label %look
out:
  ret void
}
"""

_RUN = f"""
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

; Whether one of so many arrays is nowhere, or not aligned.
define internal i1 @unfit(ptr %arrays, ptr %masks, i64 %count) nounwind {{
entry:
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %there, label %good
there:
  %nowhere = icmp eq ptr %arrays, null
  br i1 %nowhere, label %bad, label %look
look:
  %i = phi i64 [ 0, %there ], [ %i1, %next ]
  %p = getelementptr inbounds ptr, ptr %arrays, i64 %i
  %array = load ptr, ptr %p
  %address = ptrtoint ptr %array to i64
  %m = getelementptr inbounds i64, ptr %masks, i64 %i
  %mask = load i64, ptr %m
  %below = and i64 %address, %mask
  %aligned = icmp eq i64 %below, 0
  %some = icmp ne i64 %address, 0
  %fits = and i1 %aligned, %some
  br i1 %fits, label %next, label %bad
next:
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %count
  br i1 %more, label %look, label %good
good:
  ret i1 false
bad:
  ret i1 true
}}

; The threads of a call with this pool: the caller's own, without one.
define internal i64 @threads_of(ptr %about, ptr %shared) nounwind {{
entry:
  %none = icmp eq ptr %shared, null
  br i1 %none, label %out, label %pool
pool:
  %crew = load i64, ptr %shared->crew
  br label %out
out:
  %given = phi i64 [ 1, %entry ], [ %crew, %pool ]
  %most = load i64, ptr %about->most_threads
  %threads = call i64 @llvm.smin.i64(i64 %given, i64 %most)
  ret i64 %threads
}}

; The bytes of a workspace for so many threads, wherever it begins.
define internal i64 @workspace(ptr %about, i64 %wanted) nounwind {{
  %most = load i64, ptr %about->most_threads
  %some = call i64 @llvm.smax.i64(i64 %wanted, i64 1)
  %threads = call i64 @llvm.smin.i64(i64 %some, i64 %most)
  %fixed = load i64, ptr %about->tables_at
  %table = load i64, ptr %about->table_space
  %scratch = load i64, ptr %about->scratch_space
  %each = add i64 %table, %scratch
  %all = mul i64 %each, %threads
  %from = add i64 %fixed, %all
  %nbytes = add i64 %from, {ALIGNMENT}
  ret i64 %nbytes
}}

; The address of each pointer of the table.
define internal void @fill(ptr %about, ptr %table, ptr %in, ptr %out, ptr %memory) nounwind {{
entry:
  %count = load i64, ptr %about->pointers
  %places = load ptr, ptr %about->places
  %data = load ptr, ptr %about->data
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %look, label %done
look:
  %i = phi i64 [ 0, %entry ], [ %i1, %known ]
  %first = mul i64 %i, 3
  %at = getelementptr inbounds i64, ptr %places, i64 %first
  %place = load i64, ptr %at->0
  %number = load i64, ptr %at->1
  %offset = load i64, ptr %at->2
  switch i64 %place, label %known [
    i64 {PLACES["memory"]}, label %in_memory
    i64 {PLACES["input"]}, label %in_input
    i64 {PLACES["output"]}, label %in_output
    i64 {PLACES["data"]}, label %in_data
  ]
in_memory:
  br label %known
in_input:
  %ip = getelementptr inbounds ptr, ptr %in, i64 %number
  %input = load ptr, ptr %ip
  br label %known
in_output:
  %op = getelementptr inbounds ptr, ptr %out, i64 %number
  %output = load ptr, ptr %op
  br label %known
in_data:
  br label %known
known:
  %base = phi ptr [ null, %look ], [ %memory, %in_memory ], [ %input, %in_input ], [ %output, %in_output ], [ %data, %in_data ]
  %address = ptrtoint ptr %base to i64
  %all = add i64 %address, %offset
  %t = getelementptr inbounds i64, ptr %table, i64 %i
  store i64 %all, ptr %t
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %count
  br i1 %more, label %look, label %done
done:
  ret void
}}

; A call of an entry point. in, out: addresses of arrays. pool: null for the caller's thread alone.
define internal i32 @run(ptr %about, ptr %in, ptr %out, ptr %given, i64 %nbytes, ptr %shared) nounwind {{
entry:
  %inputs = load i64, ptr %about->inputs
  %outputs = load i64, ptr %about->outputs
  %masks = load ptr, ptr %about->masks
  %behind = getelementptr inbounds i64, ptr %masks, i64 %inputs
  %bad_in = call i1 @unfit(ptr %in, ptr %masks, i64 %inputs)
  %bad_out = call i1 @unfit(ptr %out, ptr %behind, i64 %outputs)
  %bad = or i1 %bad_in, %bad_out
  br i1 %bad, label %pointer, label %measure
measure:
  %threads = call i64 @threads_of(ptr %about, ptr %shared)
  %needed = call i64 @workspace(ptr %about, i64 %threads)
  %small = icmp ult i64 %nbytes, %needed
  %nowhere = icmp eq ptr %given, null
  %lacks = or i1 %small, %nowhere
  br i1 %lacks, label %space, label %prepare
prepare:
  %address = ptrtoint ptr %given to i64
  %further = add i64 %address, {ALIGNMENT - 1}
  %aligned = and i64 %further, -{ALIGNMENT}
  %record = inttoptr i64 %aligned to ptr
  %context_at = load i64, ptr %about->context_at
  %source_at = load i64, ptr %about->source_at
  %memory_at = load i64, ptr %about->memory_at
  %verdict_at = load i64, ptr %about->verdict_at
  %tables_at = load i64, ptr %about->tables_at
  %table_space = load i64, ptr %about->table_space
  %scratch_space = load i64, ptr %about->scratch_space
  %pointers = load i64, ptr %about->pointers
  %program = load ptr, ptr %about->program
  %context = getelementptr inbounds i8, ptr %record, i64 %context_at
  %source = getelementptr inbounds i8, ptr %record, i64 %source_at
  %memory = getelementptr inbounds i8, ptr %record, i64 %memory_at
  %verdict = getelementptr inbounds i8, ptr %record, i64 %verdict_at
  %tables = getelementptr inbounds i8, ptr %record, i64 %tables_at
  %tables_nbytes = mul i64 %threads, %table_space
  %scratch = getelementptr inbounds i8, ptr %tables, i64 %tables_nbytes
  call void @llvm.memset.p0.i64(ptr %context, i8 0, i64 {8 * CONTEXT_WORDS}, i1 false)
  call void @fill(ptr %about, ptr %source, ptr %in, ptr %out, ptr %memory)
  store ptr %program, ptr %record->code
  store i64 %pointers, ptr %record->slots
  store ptr %source, ptr %record->source
  store i64 %threads, ptr %record->threads
  store ptr %tables, ptr %record->tables
  store i64 %table_space, ptr %record->table_nbytes
  store ptr %scratch, ptr %record->scratch
  store i64 %scratch_space, ptr %record->scratch_nbytes
  store ptr %context, ptr %record->private
  store ptr null, ptr %record->error
  %fallible = icmp sge i64 %verdict_at, 0
  br i1 %fallible, label %hope, label %call
hope:
  store i8 1, ptr %verdict
  br label %call
call:
  %one = icmp eq i64 %threads, 1
  %crew = select i1 %one, ptr null, ptr %shared
  call void @call(ptr %crew, ptr %record, i64 0)
  br i1 %fallible, label %judge, label %good
judge:
  %well = load i8, ptr %verdict
  %fails = icmp eq i8 %well, 0
  br i1 %fails, label %label, label %good
good:
  ret i32 {Result.OK}
pointer:
  ret i32 {Result.POINTER}
space:
  ret i32 {Result.WORKSPACE}
label:
  ret i32 {Result.LABEL}
}}

; Whether so many bytes are alike.
define internal i1 @alike(ptr %a, ptr %b, i64 %count) nounwind {{
entry:
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i1, %on ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %compare, label %same
compare:
  %p = getelementptr inbounds i8, ptr %a, i64 %i
  %q = getelementptr inbounds i8, ptr %b, i64 %i
  %x = load i8, ptr %p
  %y = load i8, ptr %q
  %i1 = add i64 %i, 1
  %equal = icmp eq i8 %x, %y
  br i1 %equal, label %on, label %other
on:
  br label %look
same:
  ret i1 true
other:
  ret i1 false
}}
"""


def standalone_text(library: str, triple: str, clock: int | None) -> str:
    """The runtime of a library, for a machine of this triple.

    clock: the number of the system's exact clock; None for a system without threads, where calls have their caller's alone and nothing
    of the system is called. Else the library has pools: `LIBRARY_pool_nbytes`, `_start`, `_threads`, `_stop`. Its entry points call
    `i32 @run(ptr about, ptr in, ptr out, ptr workspace, i64 nbytes, ptr pool)` and `i64 @workspace(ptr about, i64 threads)`.
    """
    threads = _ALONE if clock is None else pause(triple) + NOW + WAITING + workers(clock) + _CLOSED + pools(library)
    return expand(threads + _WORLD + PHASES + INTERPRETER + CALLS + _RUN)
