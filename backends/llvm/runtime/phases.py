"""Phases: chunks handed out by number, decisions that all threads share, waiting, and leaving a call before its end."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.context import BEYOND, DECISIONS, DONE, RING, word

PHASES = f"""
; Chunk number %chunk of a phase: find its launch, call its function.
define internal void @compute(ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %chunk) nounwind {{
entry:
  %first = {word("%phase", 3)}
  br label %search
search:
  %launch = phi ptr [ %first, %entry ], [ %following, %skip ]
  %c = phi i64 [ %chunk, %entry ], [ %rest, %skip ]
  %p3 = {word("%launch", 3)}
  %chunks = load i64, ptr %p3
  %here = icmp slt i64 %c, %chunks
  br i1 %here, label %found, label %skip
skip:
  %rest = sub i64 %c, %chunks
  %following = {word("%launch", 5)}
  br label %search
found:
  %f = load ptr, ptr %launch
  %p1 = {word("%launch", 1)}
  %units = load i64, ptr %p1
  %p2 = {word("%launch", 2)}
  %grain = load i64, ptr %p2
  %p4 = {word("%launch", 4)}
  %offset = load i64, ptr %p4
  %mine = getelementptr inbounds i64, ptr %args, i64 %offset
  %start = mul i64 %c, %grain
  %far = add i64 %start, %grain
  %over = icmp sgt i64 %far, %units
  %stop = select i1 %over, i64 %units, i64 %far
  call void %f(ptr %table, ptr %mine, i64 %start, i64 %stop, ptr %scratch)
  ret void
}}

; Ask whether to abandon the call, if some time has passed: let Python handle signals, which may raise.
; %poll: where the thread state of Python is kept that released the interpreter's lock; null asks nobody.
define internal i64 @asked(ptr %poll, ptr %clock) nounwind {{
entry:
  %none = icmp eq ptr %poll, null
  br i1 %none, label %no, label %look
look:
  %now = call i64 @llvm.readcyclecounter()
  %last = load i64, ptr %clock
  %passed = sub i64 %now, %last
  %soon = icmp ult i64 %passed, 40000000
  br i1 %soon, label %no, label %ask
ask:
  store i64 %now, ptr %clock
  %state = load ptr, ptr %poll
  call void @PyEval_RestoreThread(ptr %state)
  %raised = call i32 @PyErr_CheckSignals()
  %released = call ptr @PyEval_SaveThread()
  store ptr %released, ptr %poll
  %bad = icmp ne i32 %raised, 0
  %answer = zext i1 %bad to i64
  ret i64 %answer
no:
  ret i64 0
}}

; A phase on one thread.
define internal i64 @serve(ptr %phase, ptr %args, ptr %table, ptr %scratch, ptr %poll, ptr %clock) nounwind {{
entry:
  %p2 = {word("%phase", 2)}
  %total = load i64, ptr %p2
  br label %loop
loop:
  %c = phi i64 [ 0, %entry ], [ %c1, %on ]
  call void @compute(ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %c)
  %gone = call i64 @asked(ptr %poll, ptr %clock)
  %leave = icmp ne i64 %gone, 0
  br i1 %leave, label %out, label %on
on:
  %c1 = add i64 %c, 1
  %more = icmp slt i64 %c1, %total
  br i1 %more, label %loop, label %out
out:
  ret i64 %gone
}}

; No thread gets another chunk of this call; wait for those that were taken, then bring the counters level.
define internal void @abandon(ptr %ctx) nounwind {{
entry:
  %taken = atomicrmw add ptr %ctx, i64 {BEYOND} acq_rel
  %pdone = {word("%ctx", DONE)}
  br label %wait
wait:
  %d = load atomic i64, ptr %pdone acquire, align 8
  %all = icmp sge i64 %d, %taken
  br i1 %all, label %level, label %pause
pause:
  PAUSE
  %y = call i32 @sched_yield()
  br label %wait
level:
  %o = atomicrmw add ptr %pdone, i64 {BEYOND} acq_rel
  ret void
}}

; Wait until `done` has come to %end: spin, then leave the core to others between looks.
define internal i64 @await(ptr %ctx, i64 %end, ptr %poll, ptr %clock) nounwind {{
entry:
  %pdone = {word("%ctx", DONE)}
  br label %look
look:
  %turns = phi i64 [ 0, %entry ], [ %turns1, %again ]
  %d = load atomic i64, ptr %pdone acquire, align 8
  %all = icmp sge i64 %d, %end
  br i1 %all, label %out, label %spin
spin:
  PAUSE
  %turns1 = add i64 %turns, 1
  %long = icmp ugt i64 %turns1, 2000
  br i1 %long, label %tired, label %again
tired:
  %y = call i32 @sched_yield()
  %gone = call i64 @asked(ptr %poll, ptr %clock)
  %leave = icmp ne i64 %gone, 0
  br i1 %leave, label %quit, label %again
again:
  br label %look
quit:
  call void @abandon(ptr %ctx)
  ret i64 1
out:
  ret i64 0
}}

; A phase on all threads: chunks from number %base up to %end.
define internal i64 @share(ptr %ctx, ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %base, i64 %end, ptr %poll,
                           ptr %clock) nounwind {{
entry:
  %pdone = {word("%ctx", DONE)}
  br label %take
take:
  %t = load atomic i64, ptr %ctx monotonic, align 8
  %none = icmp sge i64 %t, %end
  br i1 %none, label %wait, label %try
try:
  %t1 = add i64 %t, 1
  %pair = cmpxchg ptr %ctx, i64 %t, i64 %t1 acq_rel monotonic, align 8
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %work, label %take
work:
  %chunk = sub i64 %t, %base
  call void @compute(ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %chunk)
  %o = atomicrmw add ptr %pdone, i64 1 acq_rel
  %gone = call i64 @asked(ptr %poll, ptr %clock)
  %leave = icmp ne i64 %gone, 0
  br i1 %leave, label %quit, label %take
quit:
  call void @abandon(ptr %ctx)
  ret i64 1
wait:
  %r = call i64 @await(ptr %ctx, i64 %end, ptr %poll, ptr %clock)
  ret i64 %r
}}

; One decision for all threads: who gets its number reads the bool and writes it down; 0, 1, or 2 if it has been overwritten.
define internal i64 @agree(ptr %ctx, ptr %flag, i64 %base, i64 %number, ptr %poll, ptr %clock) nounwind {{
entry:
  %ring = {word("%ctx", RING)}
  %place = urem i64 %number, {DECISIONS}
  %entry.p = getelementptr inbounds i64, ptr %ring, i64 %place
  %end = add i64 %base, 1
  %pdone = {word("%ctx", DONE)}
  %pair = cmpxchg ptr %ctx, i64 %base, i64 %end acq_rel monotonic, align 8
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %decide, label %wait
decide:
  %byte = load i8, ptr %flag
  %true = icmp ne i8 %byte, 0
  %bit = zext i1 %true to i64
  %tag = shl i64 %number, 1
  %word = or i64 %tag, %bit
  store atomic i64 %word, ptr %entry.p release, align 8
  %o = atomicrmw add ptr %pdone, i64 1 acq_rel
  br label %wait
wait:
  %gone = call i64 @await(ptr %ctx, i64 %end, ptr %poll, ptr %clock)
  %left = icmp ne i64 %gone, 0
  br i1 %left, label %lost, label %read
read:
  %seen = load atomic i64, ptr %entry.p acquire, align 8
  %whose = lshr i64 %seen, 1
  %right = icmp eq i64 %whose, %number
  %answer = and i64 %seen, 1
  br i1 %right, label %out, label %lost
out:
  ret i64 %answer
lost:
  ret i64 2
}}
"""
