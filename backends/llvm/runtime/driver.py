"""The driver: native code in which all threads of a call interpret its program, synchronised on finished chunks.

A phase is cut into chunks. A thread takes the number of the next chunk from the counter `next`, computes it, and adds 1
to the counter `done`; the phase is over when all its chunks are done, whoever did them. So a thread that comes late, or
that a busy machine keeps from running, holds nobody up: it finds all numbers taken and skips ahead. Both counters only
ever grow, from call to call as well: even a thread that wakes up in a call long ended can do no harm.
"""

from __future__ import annotations

import llvmlite.binding as llvm

#: Places in a context, in 64-bit words. What different threads write stands in different cache lines.
NEXT, DONE, GENERATION, FINISHED, SLEEPING, STOP, BUSY = 0, 8, 16, 24, 32, 33, 40
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


def _pause() -> str:
    """What a waiting thread does, in a way that leaves the core to its sibling."""
    if llvm.get_default_triple().startswith("x86_64"):
        return "call void @llvm.x86.sse2.pause()"
    return "call void @llvm.aarch64.hint(i32 1)"


def driver_text() -> str:
    """The LLVM text of the driver.

    i64 drive(ptr context, ptr code, ptr args, ptr table, ptr scratch, i64 base, i64 decided, ptr poll): runs a program; 0, or 1
    if the call was abandoned. `poll` is asked now and then whether to abandon it; null does not ask.
    i64 alone(ptr code, ptr args, ptr table, ptr scratch, ptr poll): the same on one thread, without counters.
    void work(ptr context, i64 number): what a worker does, until the context's stop is set.
    void wake(ptr context): lets sleeping workers look for work.
    """
    return _TEXT.replace("PAUSING", _pause()[5:].replace("i32 1", "i32")).replace("PAUSE", _pause()).replace("@@DRIVE", _interpreter("drive")).replace("@@ALONE", _interpreter("alone"))


def _at(pointer: str, word: int) -> str:
    return f"getelementptr inbounds i64, ptr {pointer}, i64 {word}"


def _interpreter(name: str) -> str:
    """The loop over instructions; phases and decisions are shared (`drive`) or done alone."""
    shared = name == "drive"
    arguments = "ptr %ctx, ptr %code, ptr %args, ptr %table, ptr %scratch, i64 %base0, i64 %decided0, ptr %poll"
    if not shared:
        arguments = "ptr %code, ptr %args, ptr %table, ptr %scratch, ptr %poll"
    if shared:
        phase = """
  %total = load i64, ptr %w2
  %base2 = add i64 %base, %total
  %gone = call i64 @share(ptr %ctx, ptr %at, ptr %args, ptr %table, ptr %scratch, i64 %base, i64 %base2, ptr %ask)
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
  %answer = call i64 @agree(ptr %ctx, ptr %dp, i64 %base, i64 %dec, ptr %ask)
  %lost = icmp sgt i64 %answer, 1
  %other = load i64, ptr %w2
  %straight = add i64 %pc, 3
  %yes = icmp eq i64 %answer, 1
  %pc.decide = select i1 %yes, i64 %straight, i64 %other
  br i1 %lost, label %abandoned, label %next"""
    else:
        phase = """
  %gone = call i64 @serve(ptr %at, ptr %args, ptr %table, ptr %scratch, ptr %ask)
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
  br label %fetch
fetch:
  %pc = phi i64 [ 0, %entry ], [ %pc.n, %next ]
  {counters}
  {decided}
  {asks}
  %at = getelementptr inbounds i64, ptr %code, i64 %pc
  %w1 = {_at("%at", 1)}
  %w2 = {_at("%at", 2)}
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
  %w3 = {_at("%at", 3)}
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
  %ew3 = {_at("%at", 3)}
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


_TEXT = f"""
declare i32 @sched_yield()
declare ptr @memcpy(ptr, ptr, i64)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i64 @llvm.readcyclecounter()
declare PAUSING

; Chunk number %chunk of a phase: find its launch, call its function.
define internal void @compute(ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %chunk) nounwind {{
entry:
  %first = {_at("%phase", 3)}
  br label %search
search:
  %launch = phi ptr [ %first, %entry ], [ %following, %skip ]
  %c = phi i64 [ %chunk, %entry ], [ %rest, %skip ]
  %p3 = {_at("%launch", 3)}
  %chunks = load i64, ptr %p3
  %here = icmp slt i64 %c, %chunks
  br i1 %here, label %found, label %skip
skip:
  %rest = sub i64 %c, %chunks
  %following = {_at("%launch", 5)}
  br label %search
found:
  %f = load ptr, ptr %launch
  %p1 = {_at("%launch", 1)}
  %units = load i64, ptr %p1
  %p2 = {_at("%launch", 2)}
  %grain = load i64, ptr %p2
  %p4 = {_at("%launch", 4)}
  %offset = load i64, ptr %p4
  %mine = getelementptr inbounds i64, ptr %args, i64 %offset
  %start = mul i64 %c, %grain
  %far = add i64 %start, %grain
  %over = icmp sgt i64 %far, %units
  %stop = select i1 %over, i64 %units, i64 %far
  call void %f(ptr %table, ptr %mine, i64 %start, i64 %stop, ptr %scratch)
  ret void
}}

; Ask whether to abandon the call, if there is anybody to ask and some time has passed.
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
  %answer = call i64 %poll()
  ret i64 %answer
no:
  ret i64 0
}}

; A phase on one thread.
define internal i64 @serve(ptr %phase, ptr %args, ptr %table, ptr %scratch, ptr %poll) nounwind {{
entry:
  %clock = alloca i64
  %begin = call i64 @llvm.readcyclecounter()
  store i64 %begin, ptr %clock
  %p2 = {_at("%phase", 2)}
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
  %pdone = {_at("%ctx", DONE)}
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
  %pdone = {_at("%ctx", DONE)}
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
define internal i64 @share(ptr %ctx, ptr %phase, ptr %args, ptr %table, ptr %scratch, i64 %base, i64 %end, ptr %poll) nounwind {{
entry:
  %clock = alloca i64
  %begin = call i64 @llvm.readcyclecounter()
  store i64 %begin, ptr %clock
  %pdone = {_at("%ctx", DONE)}
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
define internal i64 @agree(ptr %ctx, ptr %flag, i64 %base, i64 %number, ptr %poll) nounwind {{
entry:
  %clock = alloca i64
  %begin = call i64 @llvm.readcyclecounter()
  store i64 %begin, ptr %clock
  %ring = {_at("%ctx", RING)}
  %place = urem i64 %number, {DECISIONS}
  %entry.p = getelementptr inbounds i64, ptr %ring, i64 %place
  %end = add i64 %base, 1
  %pdone = {_at("%ctx", DONE)}
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

define internal void @point(ptr %at, ptr %table, ptr %turns) nounwind {{
  %p1 = {_at("%at", 1)}
  %p2 = {_at("%at", 2)}
  %p3 = {_at("%at", 3)}
  %p4 = {_at("%at", 4)}
  %p5 = {_at("%at", 5)}
  %p6 = {_at("%at", 6)}
  %p7 = {_at("%at", 7)}
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
  %p1 = {_at("%at", 1)}
  %p2 = {_at("%at", 2)}
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
@@DRIVE
@@ALONE

define void @wake(ptr %ctx) nounwind {{
entry:
  %ps = {_at("%ctx", SLEEPING)}
  fence seq_cst
  %n = load atomic i64, ptr %ps seq_cst, align 8
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %call, label %out
call:
  %m = {_at("%ctx", MUTEX)}
  %c = {_at("%ctx", CONDITION)}
  %r0 = call i32 @pthread_mutex_lock(ptr %m)
  %r1 = call i32 @pthread_cond_broadcast(ptr %c)
  %r2 = call i32 @pthread_mutex_unlock(ptr %m)
  br label %out
out:
  ret void
}}

; A worker: wait for a call, copy its table, take part, wait again.
define void @work(ptr %ctx, i64 %number) nounwind {{
entry:
  %pg = {_at("%ctx", GENERATION)}
  %pstop = {_at("%ctx", STOP)}
  %pbusy = {_at("%ctx", BUSY)}
  %psleep = {_at("%ctx", SLEEPING)}
  %m = {_at("%ctx", MUTEX)}
  %c = {_at("%ctx", CONDITION)}
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %seen, %stale ], [ %g, %leave ], [ %seen, %woken ]
  br label %spin
spin:
  %turns = phi i64 [ 0, %idle ], [ %turns1, %longer ]
  %g = load atomic i64, ptr %pg acquire, align 8
  %new = icmp ne i64 %g, %seen
  %writing = and i64 %g, 1
  %whole = icmp eq i64 %writing, 0
  %go = and i1 %new, %whole
  br i1 %go, label %join, label %nothing
nothing:
  %stop = load atomic i64, ptr %pstop acquire, align 8
  %ends = icmp ne i64 %stop, 0
  br i1 %ends, label %out, label %longer
longer:
  PAUSE
  %turns1 = add i64 %turns, 1
  %long = icmp ugt i64 %turns1, 4000
  br i1 %long, label %sleep, label %spin
sleep:
  %r0 = call i32 @pthread_mutex_lock(ptr %m)
  %o0 = atomicrmw add ptr %psleep, i64 1 seq_cst
  br label %look
look:
  %g2 = load atomic i64, ptr %pg seq_cst, align 8
  %stop2 = load atomic i64, ptr %pstop seq_cst, align 8
  %stopping = icmp ne i64 %stop2, 0
  %other = icmp ne i64 %g2, %seen
  %up = or i1 %stopping, %other
  br i1 %up, label %woken, label %rest
rest:
  %r1 = call i32 @pthread_cond_wait(ptr %c, ptr %m)
  br label %look
woken:
  %o1 = atomicrmw sub ptr %psleep, i64 1 seq_cst
  %r2 = call i32 @pthread_mutex_unlock(ptr %m)
  br label %idle
join:
  %o2 = atomicrmw add ptr %pbusy, i64 1 seq_cst
  %p.code = {_at("%ctx", CODE)}
  %code = load atomic ptr, ptr %p.code monotonic, align 8
  %p.args = {_at("%ctx", ARGS)}
  %args = load atomic ptr, ptr %p.args monotonic, align 8
  %p.from = {_at("%ctx", TABLE)}
  %from = load atomic ptr, ptr %p.from monotonic, align 8
  %p.slots = {_at("%ctx", SLOTS)}
  %slots = load atomic i64, ptr %p.slots monotonic, align 8
  %p.tables = {_at("%ctx", TABLES)}
  %tables = load atomic ptr, ptr %p.tables monotonic, align 8
  %p.tstep = {_at("%ctx", TABLE_STEP)}
  %tstep = load atomic i64, ptr %p.tstep monotonic, align 8
  %p.scratch = {_at("%ctx", SCRATCH)}
  %scratch = load atomic ptr, ptr %p.scratch monotonic, align 8
  %p.sstep = {_at("%ctx", SCRATCH_STEP)}
  %sstep = load atomic i64, ptr %p.sstep monotonic, align 8
  %p.base = {_at("%ctx", BASE)}
  %base = load atomic i64, ptr %p.base monotonic, align 8
  %p.dec = {_at("%ctx", DECIDED)}
  %dec = load atomic i64, ptr %p.dec monotonic, align 8
  %p.limit = {_at("%ctx", LIMIT)}
  %limit = load atomic i64, ptr %p.limit monotonic, align 8
  fence acquire
  %g3 = load atomic i64, ptr %pg seq_cst, align 8
  %same = icmp eq i64 %g3, %g
  br i1 %same, label %invited, label %stale
stale:
  %o3 = atomicrmw sub ptr %pbusy, i64 1 seq_cst
  br label %idle
invited:
  %mine = icmp slt i64 %number, %limit
  br i1 %mine, label %copy, label %leave
copy:
  %toff = mul i64 %number, %tstep
  %table = getelementptr inbounds i8, ptr %tables, i64 %toff
  %soff = mul i64 %number, %sstep
  %own = getelementptr inbounds i8, ptr %scratch, i64 %soff
  %nbytes = mul i64 %slots, 8
  %cp = call ptr @memcpy(ptr %table, ptr %from, i64 %nbytes)
  fence acquire
  %g4 = load atomic i64, ptr %pg seq_cst, align 8
  %still = icmp eq i64 %g4, %g
  br i1 %still, label %run, label %stale
run:
  %ran = call i64 @drive(ptr %ctx, ptr %code, ptr %args, ptr %table, ptr %own, i64 %base, i64 %dec, ptr null)
  br label %leave
leave:
  %o4 = atomicrmw sub ptr %pbusy, i64 1 seq_cst
  br label %idle
out:
  ret void
}}
"""
