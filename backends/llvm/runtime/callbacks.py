"""Python from within a call: signal handlers that run now and then, functions that are steps of the program.

What they raise ends the call, up to the program's COMMIT; after it the call comes to its end. The caller gets it.
"""

from __future__ import annotations

from nagraph.backends.llvm.runtime.phases import ONE_CHUNK_DONE
from nagraph.backends.llvm.runtime.records import ABANDONED, BEYOND, COMMITTED
from nagraph.backends.llvm.runtime.waiting import QUICK_CLOCK

#: Nanoseconds from one time to the next.
SIGNALS_NS = 20_000_000

CALLBACKS = f"""
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @PyErr_CheckSignals()
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyObject_CallOneArg(ptr, ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)
declare i32 @pthread_key_create(ptr, ptr)
declare ptr @pthread_getspecific(i64)
declare i32 @pthread_setspecific(i64, ptr)

; Under this key each thread keeps what it knows of its call.
@key = internal global i64 0

define i32 @begin() nounwind {{
  %r = call i32 @pthread_key_create(ptr @key, ptr null)
  ret i32 %r
}}

define internal ptr @depart() nounwind {{
  %python = call ptr @PyEval_SaveThread()
  ret ptr %python
}}

define internal void @attend(ptr %me, ptr %python, i64 %signals) nounwind {{
entry:
  %wanted = icmp ne i64 %signals, 0
  br i1 %wanted, label %listening, label %out
listening:
  store ptr %python, ptr %me->python
  %began = call i64 @now(i32 {QUICK_CLOCK})
  store i64 %began, ptr %me->asked
  br label %out
out:
  ret void
}}

define internal ptr @enter(ptr %me) nounwind {{
  %key = load i64, ptr @key
  %outer = call ptr @pthread_getspecific(i64 %key)
  %r = call i32 @pthread_setspecific(i64 %key, ptr %me)
  ret ptr %outer
}}

define internal void @exit(ptr %outer) nounwind {{
  %key = load i64, ptr @key
  %r = call i32 @pthread_setspecific(i64 %key, ptr %outer)
  ret void
}}

; A worker that is late may still look at the record: `Pool.retire` keeps it.
define internal void @closed(ptr %context) nounwind {{
  ret void
}}

define internal void @arrive(ptr %python, ptr %record) nounwind {{
  call void @PyEval_RestoreThread(ptr %python)
  call void @raise(ptr %record)
  ret void
}}

; Let Python's signal handlers run, now and then. False: one has raised, and the call was abandoned for it.
; The raised error stays with Python's thread until the call is back there.
define internal i1 @listen(ptr %me) nounwind {{
entry:
  %python = load ptr, ptr %me->python
  %deaf = icmp eq ptr %python, null
  br i1 %deaf, label %on, label %clock
clock:
  %now = call i64 @now(i32 {QUICK_CLOCK})
  %last = load i64, ptr %me->asked
  %passed = sub i64 %now, %last
  %soon = icmp slt i64 %passed, {SIGNALS_NS}
  br i1 %soon, label %on, label %ask
ask:
  store i64 %now, ptr %me->asked
  call void @PyEval_RestoreThread(ptr %python)
  %r = call i32 @PyErr_CheckSignals()
  %again = call ptr @PyEval_SaveThread()
  %quiet = icmp eq i32 %r, 0
  br i1 %quiet, label %on, label %raised
raised:
  store ptr null, ptr %me->python
  %possible = call i1 @abandon(ptr %me)
  br i1 %possible, label %leave, label %on
leave:
  ret i1 false
on:
  ret i1 true
}}

; Asked by kernels that take long: whether their call was abandoned, now or before. Outside of a call it was not.
define i1 @leave() nounwind {{
entry:
  %key = load i64, ptr @key
  %me = call ptr @pthread_getspecific(i64 %key)
  %none = icmp eq ptr %me, null
  br i1 %none, label %stay, label %ask
ask:
  %on = call i1 @listen(ptr %me)
  %left = call i1 @abandoned(ptr %me)
  ret i1 %left
stay:
  ret i1 false
}}

; Abandon the call, unless it is committed: nobody gets another chunk, all waiting is over, and the caller leaves when the
; chunks that were taken are done. For the caller itself, or a thread with a chunk that it has not reported: while it
; has that the call cannot end, and `next` and `done` not be another call's.
define internal i1 @abandon(ptr %me) nounwind {{
entry:
  %call = load i64, ptr %me->call
  %open = mul i64 %call, 4
  %abandoned = add i64 %open, {ABANDONED}
  %context = load ptr, ptr %me->context
  %pair = cmpxchg ptr %context->state, i64 %open, i64 %abandoned acq_rel acquire, align 8
  %first = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %first, label %jump, label %out
jump:
  %taken = atomicrmw add ptr %context->next, i64 {BEYOND} acq_rel
  call void @report(ptr %me, i64 {BEYOND})
  br label %out
out:
  %left = call i1 @abandoned(ptr %me)
  ret i1 %left
}}

define internal i1 @abandoned(ptr %me) nounwind {{
  %call = load i64, ptr %me->call
  %open = mul i64 %call, 4
  %abandoned = add i64 %open, {ABANDONED}
  %context = load ptr, ptr %me->context
  %state = load atomic i64, ptr %context->state acquire, align 8
  %left = icmp eq i64 %state, %abandoned
  ret i1 %left
}}

; After an abandoned call: wait until the chunks that were taken are done. Nobody takes another one.
define internal void @settle(ptr %me) nounwind {{
entry:
  %context = load ptr, ptr %me->context
  br label %look
look:
  %done = load atomic i64, ptr %context->done acquire, align 8
  %next = load atomic i64, ptr %context->next acquire, align 8
  %over = icmp sge i64 %done, %next
  br i1 %over, label %out, label %wait
wait:
  call void @pause()
  %y = call i32 @sched_yield()
  br label %look
out:
  ret void
}}

; One thread calls a function of Python with the address of its table, the others wait. False: leave the call.
; After an error no function is called any more.
define internal i1 @host(ptr %me, ptr %at) nounwind {{
entry:
  %base = load i64, ptr %me->base
  %end = add i64 %base, 1
  store i64 %end, ptr %me->base
  %t = call i64 @take(ptr %me, i64 %end)
  %none = icmp slt i64 %t, 0
  br i1 %none, label %rest, label %mine
mine:
  %context = load ptr, ptr %me->context
  %record = load atomic ptr, ptr %context->record monotonic, align 8
  %failed = load ptr, ptr %record->error
  %well = icmp eq ptr %failed, null
  br i1 %well, label %work, label %report
work:
  %function = load ptr, ptr %at->1
  %table = load ptr, ptr %me->table
  %address = ptrtoint ptr %table to i64
  %lock = call i32 @PyGILState_Ensure()
  %argument = call ptr @PyLong_FromLongLong(i64 %address)
  %unmade = icmp eq ptr %argument, null
  br i1 %unmade, label %raised, label %ask
ask:
  %result = call ptr @PyObject_CallOneArg(ptr %function, ptr %argument)
  call void @Py_DecRef(ptr %argument)
  %fails = icmp eq ptr %result, null
  br i1 %fails, label %raised, label %good
raised:
  call void @PyErr_Fetch(ptr %record->error, ptr %record->value, ptr %record->trace)
  call void @PyGILState_Release(i32 %lock)
  %left = call i1 @abandon(ptr %me)
  br label %report
good:
  call void @Py_DecRef(ptr %result)
  call void @PyGILState_Release(i32 %lock)
  br label %report
{ONE_CHUNK_DONE}}}

; With Python's lock: give the caller's thread what a function has raised, unless a signal handler has raised as well.
define internal void @raise(ptr %record) nounwind {{
entry:
  %type = load ptr, ptr %record->error
  %none = icmp eq ptr %type, null
  br i1 %none, label %out, label %some
some:
  %value = load ptr, ptr %record->value
  %trace = load ptr, ptr %record->trace
  store ptr null, ptr %record->error
  %other = call ptr @PyErr_Occurred()
  %alone = icmp eq ptr %other, null
  br i1 %alone, label %set, label %drop
set:
  call void @PyErr_Restore(ptr %type, ptr %value, ptr %trace)
  ret void
drop:
  call void @Py_DecRef(ptr %type)
  call void @Py_DecRef(ptr %value)
  call void @Py_DecRef(ptr %trace)
  ret void
out:
  ret void
}}

; From here on the call may not be abandoned. False: it has been.
define internal i1 @commit(ptr %me) nounwind {{
  store ptr null, ptr %me->python
  %context = load ptr, ptr %me->context
  %call = load i64, ptr %me->call
  %open = mul i64 %call, 4
  %committed = add i64 %open, {COMMITTED}
  %pair = cmpxchg ptr %context->state, i64 %open, i64 %committed acq_rel acquire, align 8
  %old = extractvalue {{ i64, i1 }} %pair, 0
  %first = icmp eq i64 %old, %open
  %later = icmp eq i64 %old, %committed
  %on = or i1 %first, %later
  ret i1 %on
}}
"""
