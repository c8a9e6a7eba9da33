"""The interpreter: the loop over a program's instructions, which every thread runs on a table of its own."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.records import Opcode

#: An instruction's two places in the table, %a and %b, and what they hold, %x and %y.
_TWO_PLACES = """\
  %table = load ptr, ptr %me->table
  %i = load i64, ptr %at->1
  %j = load i64, ptr %at->2
  %a = getelementptr inbounds i64, ptr %table, i64 %i
  %b = getelementptr inbounds i64, ptr %table, i64 %j
  %x = load i64, ptr %a
  %y = load i64, ptr %b
"""

INTERPRETER = f"""
; table[target] = table[source] + offset + step * counter
define internal void @set_pointer(ptr %me, ptr %at) nounwind {{
  %table = load ptr, ptr %me->table
  %counters = load ptr, ptr %me->counters
  %target = load i64, ptr %at->1
  %source = load i64, ptr %at->2
  %offset = load i64, ptr %at->3
  %step = load i64, ptr %at->4
  %counter = load i64, ptr %at->5
  %c = getelementptr inbounds i64, ptr %counters, i64 %counter
  %iteration = load i64, ptr %c
  %s = getelementptr inbounds i64, ptr %table, i64 %source
  %t = getelementptr inbounds i64, ptr %table, i64 %target
  %from = load i64, ptr %s
  %moved = mul i64 %step, %iteration
  %further = add i64 %from, %offset
  %to = add i64 %further, %moved
  store i64 %to, ptr %t
  ret void
}}

; whether table[a] and table[b] are different
define internal i1 @differ(ptr %me, ptr %at) nounwind {{
{_TWO_PLACES}  %different = icmp ne i64 %x, %y
  ret i1 %different
}}

define internal void @swap(ptr %me, ptr %at) nounwind {{
{_TWO_PLACES}  store i64 %y, ptr %a
  store i64 %x, ptr %b
  ret void
}}

; The program, from its first instruction. True: it came to its end; false: this thread left the call.
define internal i1 @interpret(ptr %me) nounwind {{
entry:
  %words = load ptr, ptr %me->words
  %counters = load ptr, ptr %me->counters
  br label %fetch
fetch:
  %at = phi ptr [ %words, %entry ], [ %next, %on ], [ %aim, %jump ]
  %op = load i64, ptr %at
  switch i64 %op, label %stop [
    i64 {Opcode.PHASE}, label %phase
    i64 {Opcode.CHAIN}, label %chain
    i64 {Opcode.SET}, label %set
    i64 {Opcode.SWAP}, label %swap
    i64 {Opcode.LOOP}, label %loop
    i64 {Opcode.END}, label %end
    i64 {Opcode.DECIDE}, label %decide
    i64 {Opcode.DIFFER}, label %differ
    i64 {Opcode.JUMP}, label %away
    i64 {Opcode.COMMIT}, label %commit
    i64 {Opcode.HOST}, label %host
  ]
phase:
  %p.length = load i64, ptr %at->1
  %p.on = call i1 @phase(ptr %me, ptr %at)
  br i1 %p.on, label %on, label %leave
chain:
  %c.length = load i64, ptr %at->1
  %c.on = call i1 @chain(ptr %me, ptr %at)
  br i1 %c.on, label %on, label %leave
set:
  call void @set_pointer(ptr %me, ptr %at)
  br label %on
swap:
  call void @swap(ptr %me, ptr %at)
  br label %on
loop:                                      ; counter, iterations, where to go on after the last
  %l.counter = load i64, ptr %at->1
  %l.iterations = load i64, ptr %at->2
  %l.behind = load i64, ptr %at->3
  %l.c = getelementptr inbounds i64, ptr %counters, i64 %l.counter
  store i64 0, ptr %l.c
  %l.any = icmp sgt i64 %l.iterations, 0
  br i1 %l.any, label %on, label %jump
end:                                       ; counter, iterations, where the body begins
  %e.counter = load i64, ptr %at->1
  %e.iterations = load i64, ptr %at->2
  %e.body = load i64, ptr %at->3
  %e.c = getelementptr inbounds i64, ptr %counters, i64 %e.counter
  %e.iteration = load i64, ptr %e.c
  %e.iteration1 = add i64 %e.iteration, 1
  store i64 %e.iteration1, ptr %e.c
  %e.more = icmp slt i64 %e.iteration1, %e.iterations
  br i1 %e.more, label %jump, label %on
decide:                                    ; slot, where to go on if not
  %d.other = load i64, ptr %at->2
  %d.answer = call i64 @decide(ptr %me, ptr %at)
  switch i64 %d.answer, label %leave [ i64 0, label %jump  i64 1, label %on ]
differ:                                    ; a, b, where to go on if they are one
  %f.other = load i64, ptr %at->3
  %f.on = call i1 @differ(ptr %me, ptr %at)
  br i1 %f.on, label %on, label %jump
away:
  %a.target = load i64, ptr %at->1
  br label %jump
commit:
  %m.on = call i1 @commit(ptr %me)
  br i1 %m.on, label %on, label %leave
host:
  %h.on = call i1 @host(ptr %me, ptr %at)
  br i1 %h.on, label %on, label %leave
on:
  %length = phi i64 [ %p.length, %phase ], [ %c.length, %chain ], [ 6, %set ], [ 3, %swap ], [ 4, %loop ], [ 4, %end ],
    [ 3, %decide ], [ 4, %differ ], [ 1, %commit ], [ 2, %host ]
  %next = getelementptr inbounds i64, ptr %at, i64 %length
  br label %fetch
jump:
  %target = phi i64 [ %l.behind, %loop ], [ %e.body, %end ], [ %d.other, %decide ], [ %f.other, %differ ], [ %a.target, %away ]
  %aim = getelementptr inbounds i64, ptr %words, i64 %target
  br label %fetch
stop:
  %context = load ptr, ptr %me->context
  %call = load i64, ptr %me->call
  %last = atomicrmw max ptr %context->finished, i64 %call acq_rel
  ret i1 true
leave:
  ret i1 false
}}
"""
