"""Phases: chunks handed out by number, chains, and decisions that are the same for all threads."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.records import DECISIONS, LAUNCH_WORDS

#: The end of a phase of one chunk, at %end: the thread that had it says so and listens, and every thread waits for the rest.
ONE_CHUNK_DONE = """\
report:
  call void @report(ptr %me, i64 1)
  %heard = call i1 @listen(ptr %me)
  br i1 %heard, label %rest, label %leave
rest:
  %some = phi i1 [ false, %entry ], [ true, %report ]
  %on = call i1 @rest(ptr %me, i64 %end, i1 %some)
  ret i1 %on
leave:
  ret i1 false
"""

PHASES = f"""
; Units [start, stop) of a launch.
define internal void @launch(ptr %me, ptr %launch, i64 %start, i64 %stop) nounwind {{
  %kernel = load ptr, ptr %launch->0
  %at = load i64, ptr %launch->4
  %words = load ptr, ptr %me->words
  %args = getelementptr inbounds i64, ptr %words, i64 %at
  %table = load ptr, ptr %me->table
  %scratch = load ptr, ptr %me->memory
  call void %kernel(ptr %table, ptr %args, i64 %start, i64 %stop, ptr %scratch)
  ret void
}}

; A chunk of a phase, counted from the phase's first: which launch's it is, and which units.
define internal void @chunk(ptr %me, ptr %at, i64 %number) nounwind {{
entry:
  br label %search
search:
  %before = phi ptr [ %at, %entry ], [ %launch, %skip ]
  %n = phi i64 [ %number, %entry ], [ %rest, %skip ]
  %words = phi i64 [ 3, %entry ], [ {LAUNCH_WORDS}, %skip ]
  %launch = getelementptr inbounds i64, ptr %before, i64 %words
  %chunks = load i64, ptr %launch->3
  %rest = sub i64 %n, %chunks
  %here = icmp slt i64 %rest, 0
  br i1 %here, label %found, label %skip
skip:
  br label %search
found:
  %units = load i64, ptr %launch->1
  %grain = load i64, ptr %launch->2
  %start = mul i64 %n, %grain
  %end = add i64 %start, %grain
  %stop = call i64 @llvm.smin.i64(i64 %end, i64 %units)
  call void @launch(ptr %me, ptr %launch, i64 %start, i64 %stop)
  ret void
}}

; Take a chunk with a number below %end; -1 if there is none left.
define internal i64 @take(ptr %me, i64 %end) nounwind {{
entry:
  %context = load ptr, ptr %me->context
  br label %look
look:
  %t = load atomic i64, ptr %context->next monotonic, align 8
  %left = icmp slt i64 %t, %end
  br i1 %left, label %try, label %none
try:
  %t1 = add i64 %t, 1
  %pair = cmpxchg ptr %context->next, i64 %t, i64 %t1 monotonic monotonic, align 8
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %taken, label %look
taken:
  ret i64 %t
none:
  ret i64 -1
}}

; What this thread has computed is there for everybody who sees `done` grow.
define internal void @report(ptr %me, i64 %count) nounwind {{
  %context = load ptr, ptr %me->context
  %old = atomicrmw add ptr %context->done, i64 %count acq_rel
  ret void
}}

; Whether the call is still the one that this thread joined, and not abandoned.
define internal i1 @current(ptr %me) nounwind {{
  %context = load ptr, ptr %me->context
  %call = load i64, ptr %me->call
  %generation = load atomic i64, ptr %context->generation monotonic, align 8
  %same = icmp eq i64 %generation, %call
  %left = call i1 @abandoned(ptr %me)
  %stays = xor i1 %left, true
  %current = and i1 %same, %stays
  ret i1 %current
}}

; After the chunks that this thread got of a phase: wait for the others'. False: leave the call.
; Who got none may have come too late, and the call may be another one.
define internal i1 @rest(ptr %me, i64 %end, i1 %some) nounwind {{
entry:
  br i1 %some, label %wait, label %late
late:
  %current = call i1 @current(ptr %me)
  br i1 %current, label %wait, label %leave
wait:
  %on = call i1 @await(ptr %me, i64 %end)
  ret i1 %on
leave:
  ret i1 false
}}

; As many chunks of a phase as this thread gets. False: leave the call.
define internal i1 @phase(ptr %me, ptr %at) nounwind {{
entry:
  %base = load i64, ptr %me->base
  %chunks = load i64, ptr %at->2
  %end = add i64 %base, %chunks
  store i64 %end, ptr %me->base
  br label %look
look:
  %some = phi i1 [ false, %entry ], [ true, %work ]
  %t = call i64 @take(ptr %me, i64 %end)
  %none = icmp slt i64 %t, 0
  br i1 %none, label %rest, label %work
work:
  %number = sub i64 %t, %base
  call void @chunk(ptr %me, ptr %at, i64 %number)
  call void @report(ptr %me, i64 1)
  %heard = call i1 @listen(ptr %me)
  br i1 %heard, label %look, label %leave
rest:
  %on = call i1 @rest(ptr %me, i64 %end, i1 %some)
  ret i1 %on
leave:
  ret i1 false
}}

; Launches in their order, all by the thread that gets the chain's only chunk. False: leave the call.
define internal i1 @chain(ptr %me, ptr %at) nounwind {{
entry:
  %base = load i64, ptr %me->base
  %end = add i64 %base, 1
  store i64 %end, ptr %me->base
  %count = load i64, ptr %at->2
  %first = getelementptr inbounds i64, ptr %at, i64 3
  %t = call i64 @take(ptr %me, i64 %end)
  %none = icmp slt i64 %t, 0
  br i1 %none, label %rest, label %work
work:
  %i = phi i64 [ 0, %entry ], [ %i1, %work ]
  %launch = phi ptr [ %first, %entry ], [ %following, %work ]
  %units = load i64, ptr %launch->1
  call void @launch(ptr %me, ptr %launch, i64 0, i64 %units)
  %i1 = add i64 %i, 1
  %following = getelementptr inbounds i64, ptr %launch, i64 {LAUNCH_WORDS}
  %left = call i1 @abandoned(ptr %me)
  %stays = xor i1 %left, true
  %unfinished = icmp slt i64 %i1, %count
  %more = and i1 %unfinished, %stays
  br i1 %more, label %work, label %report
{ONE_CHUNK_DONE}}}

; One answer for all threads: who gets the only chunk reads the bool and writes it down, under the chunk's number.
; 0, 1, or -1: leave the call. (A thread that is so late that the place has another answer by now cannot know the way.)
define internal i64 @decide(ptr %me, ptr %at) nounwind {{
entry:
  %context = load ptr, ptr %me->context
  %base = load i64, ptr %me->base
  %end = add i64 %base, 1
  store i64 %end, ptr %me->base
  %number = load i64, ptr %me->decisions
  %number1 = add i64 %number, 1
  store i64 %number1, ptr %me->decisions
  %place = urem i64 %number, {DECISIONS}
  %ring = getelementptr inbounds i64, ptr %context->ring, i64 %place
  %tag = shl i64 %base, 1
  %t = call i64 @take(ptr %me, i64 %end)
  %none = icmp slt i64 %t, 0
  br i1 %none, label %rest, label %answer
answer:
  %slot = load i64, ptr %at->1
  %table = load ptr, ptr %me->table
  %p = getelementptr inbounds i64, ptr %table, i64 %slot
  %flag = load ptr, ptr %p
  %byte = load i8, ptr %flag
  %true = icmp ne i8 %byte, 0
  %bit = zext i1 %true to i64
  %word = or i64 %tag, %bit
  store atomic i64 %word, ptr %ring release, align 8
  call void @report(ptr %me, i64 1)
  %heard = call i1 @listen(ptr %me)
  br i1 %heard, label %rest, label %leave
rest:
  %some = phi i1 [ false, %entry ], [ true, %answer ]
  %on = call i1 @rest(ptr %me, i64 %end, i1 %some)
  br i1 %on, label %read, label %leave
read:
  %found = load atomic i64, ptr %ring acquire, align 8
  %of = and i64 %found, -2
  %known = icmp eq i64 %of, %tag
  %value = and i64 %found, 1
  br i1 %known, label %out, label %leave
out:
  ret i64 %value
leave:
  ret i64 -1
}}
"""
