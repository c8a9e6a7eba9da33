"""Calls: how a caller opens a call for the workers, how workers join it, spin for the next one and sleep.

What belongs to the caller's world, such as Python's lock, is in functions that `callbacks` defines, or `standalone`, without Python:

    ptr @depart()                          the caller's world is left until the call is over
    void @attend(ptr me, ptr left, i64 signals)    from here on the caller's signals are asked for, if it wants that
    ptr @enter(ptr me)                     this thread is in the call; what it was in before
    void @exit(ptr outer)                  it is in that again
    void @closed(ptr context)              no worker can join the call any more
    void @arrive(ptr left, ptr record)     the caller's world is back, and hears of errors
"""

from __future__ import annotations

from nagraph.backends.llvm.runtime.records import THREAD

#: How long a worker looks for the next call before it sleeps.
IDLE_NS = 50_000

CALLS = f"""
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; Thread `number` of a call: its own table, counters and scratch memory.
define internal void @prepare(ptr %me, ptr %context, ptr %record, i64 %number, i64 %call, i64 %first) nounwind {{
  %words = load ptr, ptr %record->code
  %slots = load i64, ptr %record->slots
  %source = load ptr, ptr %record->source
  %tables = load ptr, ptr %record->tables
  %each = load i64, ptr %record->table_nbytes
  %memories = load ptr, ptr %record->scratch
  %space = load i64, ptr %record->scratch_nbytes
  %ahead = mul i64 %number, %each
  %table = getelementptr inbounds i8, ptr %tables, i64 %ahead
  %counters = getelementptr inbounds i64, ptr %table, i64 %slots
  %away = mul i64 %number, %space
  %memory = getelementptr inbounds i8, ptr %memories, i64 %away
  %nbytes = mul i64 %slots, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %table, ptr %source, i64 %nbytes, i1 false)
  store i64 0, ptr %counters               ; counter 0 stays 0: for pointers that no loop moves
  store ptr %context, ptr %me->context
  store ptr %words, ptr %me->words
  store ptr %table, ptr %me->table
  store ptr %counters, ptr %me->counters
  store ptr %memory, ptr %me->memory
  store i64 %call, ptr %me->call
  store i64 %first, ptr %me->base
  store i64 0, ptr %me->decisions
  store ptr null, ptr %me->python
  store i64 0, ptr %me->asked
  ret void
}}

define void @call(ptr %shared, ptr %record, i64 %signals) nounwind {{
entry:
  %me = alloca [{len(THREAD)} x i64], align 64
  %caller = call ptr @depart()
  %private = load ptr, ptr %record->private
  %none = icmp eq ptr %shared, null
  br i1 %none, label %alone, label %ask
ask:
  %pair = cmpxchg ptr %shared->owner, i64 0, i64 1 acquire monotonic, align 8
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %open, label %alone
alone:
  br label %open
open:
  %context = phi ptr [ %shared, %ask ], [ %private, %alone ]
  %closed = load i64, ptr %context->generation
  %call = add i64 %closed, 1
  %first = load atomic i64, ptr %context->next monotonic, align 8
  %state = mul i64 %call, 4
  fence release                            ; who sees this call's record sees that the call before is closed, be it another thread's
  store atomic i64 %state, ptr %context->state monotonic, align 8
  store atomic ptr %record, ptr %context->record monotonic, align 8
  store atomic i64 %first, ptr %context->first monotonic, align 8
  %g = atomicrmw xchg ptr %context->generation, i64 %call seq_cst
  call void @wake(ptr %context)
  call void @prepare(ptr %me, ptr %context, ptr %record, i64 0, i64 %call, i64 %first)
  call void @attend(ptr %me, ptr %caller, i64 %signals)
  %outer = call ptr @enter(ptr %me)        ; a signal handler may call while a call is open
  %whole = call i1 @interpret(ptr %me)
  call void @exit(ptr %outer)
  br label %ended
ended:                                     ; the program is at its end or abandoned, or this thread was late for a decision:
  %left = call i1 @abandoned(ptr %me)      ; then the others bring it to its end
  br i1 %left, label %settle, label %ask2
settle:
  call void @settle(ptr %me)
  br label %close
ask2:
  br i1 %whole, label %close, label %look
look:
  %last = load atomic i64, ptr %context->finished acquire, align 8
  %over = icmp sge i64 %last, %call
  br i1 %over, label %close, label %wait
wait:
  call void @pause()
  %y = call i32 @sched_yield()
  %on = call i1 @listen(ptr %me)
  br label %ended
close:
  %then = add i64 %call, 1
  %g2 = atomicrmw xchg ptr %context->generation, i64 %then seq_cst
  call void @closed(ptr %context)
  fence release                            ; what the next call writes is not seen before this
  store atomic i64 0, ptr %context->owner release, align 8
  call void @arrive(ptr %caller, ptr %record)
  ret void
}}
"""


def workers(clock: int) -> str:
    """The functions of workers: @wake, @quiet, @work. clock: the number of the system's exact one."""
    return f"""
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)

define void @wake(ptr %context) nounwind {{
entry:
  fence seq_cst                            ; first what there is to see, then whether somebody sleeps; sleepers do it crosswise
  %n = load atomic i64, ptr %context->sleeping monotonic, align 8
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %call, label %out
call:
  %r0 = call i32 @pthread_mutex_lock(ptr %context->mutex)
  %r1 = call i32 @pthread_cond_broadcast(ptr %context->condition)
  %r2 = call i32 @pthread_mutex_unlock(ptr %context->mutex)
  br label %out
out:
  ret void
}}

define i64 @quiet(ptr %context) nounwind {{
  fence seq_cst
  %n = load atomic i64, ptr %context->busy seq_cst, align 8
  %none = icmp eq i64 %n, 0
  %quiet = zext i1 %none to i64
  ret i64 %quiet
}}

; Whether a worker has something to do: an open call other than the last one it has seen.
define internal i1 @news(ptr %context, i64 %seen) nounwind {{
  %g = load atomic i64, ptr %context->generation seq_cst, align 8
  %odd = trunc i64 %g to i1
  %new = icmp ne i64 %g, %seen
  %news = and i1 %odd, %new
  ret i1 %news
}}

; Take part in the call that is open, if it is still open when everything about it is known. The generation, or 0 if none was.
define internal i64 @join(ptr %context, i64 %number) nounwind {{
entry:
  %me = alloca [{len(THREAD)} x i64], align 64
  ; First be counted, then look: who finds nobody busy after a call was closed may free its record.
  %busy = atomicrmw add ptr %context->busy, i64 1 seq_cst
  %call = load atomic i64, ptr %context->generation seq_cst, align 8
  %open = trunc i64 %call to i1
  br i1 %open, label %read, label %nothing
read:
  %record = load atomic ptr, ptr %context->record monotonic, align 8
  %first = load atomic i64, ptr %context->first monotonic, align 8
  fence acquire
  %g = load atomic i64, ptr %context->generation monotonic, align 8
  %same = icmp eq i64 %g, %call
  br i1 %same, label %ask, label %nothing
ask:
  %limit = load i64, ptr %record->threads
  %invited = icmp slt i64 %number, %limit
  br i1 %invited, label %copy, label %out
copy:
  call void @prepare(ptr %me, ptr %context, ptr %record, i64 %number, i64 %call, i64 %first)
  fence acquire
  %still = call i1 @current(ptr %me)       ; else the record may have been another call's, half written
  br i1 %still, label %run, label %nothing
run:
  %outer = call ptr @enter(ptr %me)
  %whole = call i1 @interpret(ptr %me)
  call void @exit(ptr %outer)
  br label %out
out:
  %busy1 = atomicrmw sub ptr %context->busy, i64 1 seq_cst
  ret i64 %call
nothing:
  %busy2 = atomicrmw sub ptr %context->busy, i64 1 seq_cst
  ret i64 0
}}

define void @work(ptr %context, i64 %number) nounwind {{
entry:
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %seen2, %joined ], [ %seen, %woken ]
  %began = call i64 @now(i32 {clock})
  br label %look
look:
  %iteration = phi i64 [ 0, %idle ], [ %iteration1, %pause ], [ %iteration1, %clock ]
  %stop = load atomic i64, ptr %context->stop acquire, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %out, label %ask
ask:
  %news = call i1 @news(ptr %context, i64 %seen)
  br i1 %news, label %join, label %pause
join:
  %took = call i64 @join(ptr %context, i64 %number)
  br label %joined
joined:
  %none = icmp eq i64 %took, 0
  %seen2 = select i1 %none, i64 %seen, i64 %took
  br label %idle
pause:
  call void @pause()
  %iteration1 = add i64 %iteration, 1
  %some = and i64 %iteration1, 31
  %many = icmp eq i64 %some, 0
  br i1 %many, label %clock, label %look
clock:
  %now = call i64 @now(i32 {clock})
  %passed = sub i64 %now, %began
  %tired = icmp sgt i64 %passed, {IDLE_NS}
  br i1 %tired, label %sleep, label %look
sleep:
  %r0 = call i32 @pthread_mutex_lock(ptr %context->mutex)
  %s0 = atomicrmw add ptr %context->sleeping, i64 1 seq_cst
  fence seq_cst
  br label %check
check:
  %stop2 = load atomic i64, ptr %context->stop seq_cst, align 8
  %stopped2 = icmp ne i64 %stop2, 0
  %news2 = call i1 @news(ptr %context, i64 %seen)
  %up = or i1 %stopped2, %news2
  br i1 %up, label %woken, label %rest
rest:
  %r1 = call i32 @pthread_cond_wait(ptr %context->condition, ptr %context->mutex)
  br label %check
woken:
  %s1 = atomicrmw sub ptr %context->sleeping, i64 1 seq_cst
  %r2 = call i32 @pthread_mutex_unlock(ptr %context->mutex)
  br label %idle
out:
  ret void
}}
"""
