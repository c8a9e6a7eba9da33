"""Signals: a call lets Python's handlers run now and then; one that raises ends the call, up to the program's COMMIT."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.layout import ABANDONED, BEYOND, COMMITTED
from nagraph.backends.llvm.runtime.waiting import QUICK_CLOCK

#: Nanoseconds from one time to the next.
SIGNALS_NS = 20_000_000

SIGNALS = f"""
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @PyErr_CheckSignals()

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
  %call = load i64, ptr %me->call
  %open = mul i64 %call, 4
  %abandoned = add i64 %open, {ABANDONED}
  %context = load ptr, ptr %me->context
  %pair = cmpxchg ptr %context->state, i64 %open, i64 %abandoned acq_rel acquire, align 8
  %first = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %first, label %abandon, label %on
abandon:                                   ; nobody gets another chunk; once those taken are done, all waiting is over
  %taken = atomicrmw add ptr %context->next, i64 {BEYOND} acq_rel
  %finished = call i1 @await(ptr %me, i64 %taken)
  call void @report(ptr %me, i64 {BEYOND})
  ret i1 false
on:
  ret i1 true
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
