"""The interpreter: the loop over a program's instructions, which every thread runs on a table of its own."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.context import COMMIT, DECIDE, END, JUMP, LOOP, LOOPS, PHASE, POINT, SWAP, word

MOVES = f"""
define internal void @point(ptr %at, ptr %table, ptr %turns) nounwind {{
  %p1 = {word("%at", 1)}
  %p2 = {word("%at", 2)}
  %p3 = {word("%at", 3)}
  %p4 = {word("%at", 4)}
  %p5 = {word("%at", 5)}
  %p6 = {word("%at", 6)}
  %p7 = {word("%at", 7)}
  %target = load i64, ptr %p1
  %source = load i64, ptr %p2
  %offset = load i64, ptr %p3
  %stride = load i64, ptr %p4
  %loop = load i64, ptr %p5
  %length = load i64, ptr %p6
  %reverse = load i64, ptr %p7
  %tp = getelementptr inbounds i64, ptr %turns, i64 %loop
  %turn = load i64, ptr %tp
  %last = sub i64 %length, 1
  %back = sub i64 %last, %turn
  %isback = icmp ne i64 %reverse, 0
  %which = select i1 %isback, i64 %back, i64 %turn
  %moved = mul i64 %which, %stride
  %add = add i64 %moved, %offset
  %sp = getelementptr inbounds i64, ptr %table, i64 %source
  %from = load i64, ptr %sp
  %to = add i64 %from, %add
  %dp = getelementptr inbounds i64, ptr %table, i64 %target
  store i64 %to, ptr %dp
  ret void
}}

define internal void @swap(ptr %at, ptr %table) nounwind {{
  %p1 = {word("%at", 1)}
  %p2 = {word("%at", 2)}
  %a = load i64, ptr %p1
  %b = load i64, ptr %p2
  %pa = getelementptr inbounds i64, ptr %table, i64 %a
  %pb = getelementptr inbounds i64, ptr %table, i64 %b
  %x = load i64, ptr %pa
  %y = load i64, ptr %pb
  store i64 %y, ptr %pa
  store i64 %x, ptr %pb
  ret void
}}
"""


def interpreter(name: str) -> str:
    """The loop over instructions; phases and decisions are shared (`drive`) or done alone."""
    shared = name == "drive"
    arguments = "ptr %ctx, ptr %code, ptr %args, ptr %table, ptr %scratch, i64 %base0, i64 %decided0, ptr %poll"
    if not shared:
        arguments = "ptr %code, ptr %args, ptr %table, ptr %scratch, ptr %poll"
    if shared:
        phase = """
  %total = load i64, ptr %w2
  %base2 = add i64 %base, %total
  %gone = call i64 @share(ptr %ctx, ptr %at, ptr %args, ptr %table, ptr %scratch, i64 %base, i64 %base2, ptr %ask, ptr %clock)
  %left = icmp ne i64 %gone, 0
  %count = load i64, ptr %w1
  %words = mul i64 %count, 5
  %pc2 = add i64 %pc, 3
  %pc.phase = add i64 %pc2, %words
  br i1 %left, label %abandoned, label %next"""
        decide = """
  %dec3 = add i64 %dec, 1
  %base3 = add i64 %base, 1
  %dslot = load i64, ptr %w1
  %dpp = getelementptr inbounds ptr, ptr %table, i64 %dslot
  %dp = load ptr, ptr %dpp
  %answer = call i64 @agree(ptr %ctx, ptr %dp, i64 %base, i64 %dec, ptr %ask, ptr %clock)
  %lost = icmp sgt i64 %answer, 1
  %other = load i64, ptr %w2
  %straight = add i64 %pc, 3
  %yes = icmp eq i64 %answer, 1
  %pc.decide = select i1 %yes, i64 %straight, i64 %other
  br i1 %lost, label %abandoned, label %next"""
    else:
        phase = """
  %gone = call i64 @serve(ptr %at, ptr %args, ptr %table, ptr %scratch, ptr %ask, ptr %clock)
  %left = icmp ne i64 %gone, 0
  %count = load i64, ptr %w1
  %words = mul i64 %count, 5
  %pc2 = add i64 %pc, 3
  %pc.phase = add i64 %pc2, %words
  br i1 %left, label %abandoned, label %next"""
        decide = """
  %dslot = load i64, ptr %w1
  %dpp = getelementptr inbounds ptr, ptr %table, i64 %dslot
  %dp = load ptr, ptr %dpp
  %answer = load i8, ptr %dp
  %other = load i64, ptr %w2
  %straight = add i64 %pc, 3
  %yes = icmp ne i8 %answer, 0
  %pc.decide = select i1 %yes, i64 %straight, i64 %other
  br label %next"""
    counters = decided = carried = ""
    if shared:
        carried = ("  %base.n = phi i64 [ %base, %step ], [ %base2, %phase ], [ %base3, %decide ]\n"
                   "  %dec.n = phi i64 [ %dec, %step ], [ %dec, %phase ], [ %dec3, %decide ]\n")
        counters = "%base = phi i64 [ %base0, %entry ], [ %base.n, %next ]"
        decided = "%dec = phi i64 [ %decided0, %entry ], [ %dec.n, %next ]"
    asks = "%ask = phi ptr [ %poll, %entry ], [ %ask.n, %next ]"
    return f"""
define i64 @{name}({arguments}) nounwind {{
entry:
  %turns = alloca i64, i64 {LOOPS}, align 64
  %clock = alloca i64
  %began = call i64 @llvm.readcyclecounter()
  store i64 %began, ptr %clock
  br label %fetch
fetch:
  %pc = phi i64 [ 0, %entry ], [ %pc.n, %next ]
  {counters}
  {decided}
  {asks}
  %at = getelementptr inbounds i64, ptr %code, i64 %pc
  %w1 = {word("%at", 1)}
  %w2 = {word("%at", 2)}
  %op = load i64, ptr %at
  switch i64 %op, label %halt [ i64 {PHASE}, label %phase  i64 {DECIDE}, label %decide  i64 {POINT}, label %point
    i64 {SWAP}, label %swap  i64 {LOOP}, label %loop  i64 {END}, label %end  i64 {JUMP}, label %jump  i64 {COMMIT}, label %commit ]
phase:{phase}
decide:{decide}
point:
  call void @point(ptr %at, ptr %table, ptr %turns)
  %pc.point = add i64 %pc, 8
  br label %step
swap:
  call void @swap(ptr %at, ptr %table)
  %pc.swap = add i64 %pc, 3
  br label %step
loop:
  %n = load i64, ptr %w1
  %tp = getelementptr inbounds i64, ptr %turns, i64 %n
  store i64 0, ptr %tp
  %limit = load i64, ptr %w2
  %empty = icmp sle i64 %limit, 0
  %w3 = {word("%at", 3)}
  %behind = load i64, ptr %w3
  %inside = add i64 %pc, 4
  %pc.loop = select i1 %empty, i64 %behind, i64 %inside
  br label %step
end:
  %en = load i64, ptr %w1
  %ep = getelementptr inbounds i64, ptr %turns, i64 %en
  %turn = load i64, ptr %ep
  %turn1 = add i64 %turn, 1
  store i64 %turn1, ptr %ep
  %elimit = load i64, ptr %w2
  %again = icmp slt i64 %turn1, %elimit
  %ew3 = {word("%at", 3)}
  %begin = load i64, ptr %ew3
  %after = add i64 %pc, 4
  %pc.end = select i1 %again, i64 %begin, i64 %after
  br label %step
jump:
  %pc.jump = load i64, ptr %w1
  br label %step
commit:
  %pc.commit = add i64 %pc, 1
  br label %step
step:
  %pc.step = phi i64 [ %pc.point, %point ], [ %pc.swap, %swap ], [ %pc.loop, %loop ], [ %pc.end, %end ], [ %pc.jump, %jump ],
    [ %pc.commit, %commit ]
  %ask2 = phi ptr [ %ask, %point ], [ %ask, %swap ], [ %ask, %loop ], [ %ask, %end ], [ %ask, %jump ], [ null, %commit ]
  br label %next
next:
  %pc.n = phi i64 [ %pc.step, %step ], [ %pc.phase, %phase ], [ %pc.decide, %decide ]
  %ask.n = phi ptr [ %ask2, %step ], [ %ask, %phase ], [ %ask, %decide ]
{carried}  br label %fetch
halt:
  ret i64 0
abandoned:
  ret i64 1
}}
"""
