"""Workers: threads that wait for a call, copy its table, take part, and wait again; they spin for a while, then sleep."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.context import (
    ARGS,
    BASE,
    BUSY,
    CODE,
    CONDITION,
    DECIDED,
    GENERATION,
    LIMIT,
    MADE,
    MUTEX,
    SCRATCH,
    SCRATCH_STEP,
    SLEEPING,
    SLOTS,
    STOP,
    TABLE,
    TABLE_STEP,
    TABLES,
    word,
)

WORKER = f"""
; A call: write down what there is to do (an odd generation meanwhile), wake the workers, take part.
; %job: the words from CODE on, but for the counters' and the decisions' start, which stand in the context.
define i64 @conduct(ptr %ctx, ptr %job, ptr %poll) nounwind {{
  %pg = {word("%ctx", GENERATION)}
  %g = load atomic i64, ptr %pg monotonic, align 8
  %odd = add i64 %g, 1
  store atomic i64 %odd, ptr %pg seq_cst, align 8
  fence seq_cst
  %words = {word("%ctx", CODE)}
  %copied = call ptr @memcpy(ptr %words, ptr %job, i64 {8 * (LIMIT - CODE + 1)})
  %base = load atomic i64, ptr %ctx seq_cst, align 8
  %pbase = {word("%ctx", BASE)}
  store i64 %base, ptr %pbase
  %plast = {word("%ctx", MADE)}
  %last = load i64, ptr %plast
  %dec = add i64 %last, {1 << 32}
  store i64 %dec, ptr %plast
  %pdec = {word("%ctx", DECIDED)}
  store i64 %dec, ptr %pdec
  %even = add i64 %g, 2
  store atomic i64 %even, ptr %pg seq_cst, align 8
  call void @wake(ptr %ctx)
  %p.code = {word("%job", CODE - CODE)}
  %code = load ptr, ptr %p.code
  %p.args = {word("%job", ARGS - CODE)}
  %args = load ptr, ptr %p.args
  %p.from = {word("%job", TABLE - CODE)}
  %from = load ptr, ptr %p.from
  %p.slots = {word("%job", SLOTS - CODE)}
  %slots = load i64, ptr %p.slots
  %p.tables = {word("%job", TABLES - CODE)}
  %tables = load ptr, ptr %p.tables
  %p.scratch = {word("%job", SCRATCH - CODE)}
  %scratch = load ptr, ptr %p.scratch
  %nbytes = mul i64 %slots, 8
  %table = call ptr @memcpy(ptr %tables, ptr %from, i64 %nbytes)
  %left = call i64 @drive(ptr %ctx, ptr %code, ptr %args, ptr %tables, ptr %scratch, i64 %base, i64 %dec, ptr %poll)
  ; Nobody is invited any more: the program may be gone before a late worker looks for it.
  %odd2 = add i64 %g, 3
  store atomic i64 %odd2, ptr %pg seq_cst, align 8
  %plimit = {word("%ctx", LIMIT)}
  store atomic i64 0, ptr %plimit seq_cst, align 8
  %even2 = add i64 %g, 4
  store atomic i64 %even2, ptr %pg seq_cst, align 8
  ret i64 %left
}}

define void @wake(ptr %ctx) nounwind {{
entry:
  %ps = {word("%ctx", SLEEPING)}
  fence seq_cst
  %n = load atomic i64, ptr %ps seq_cst, align 8
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %call, label %out
call:
  %m = {word("%ctx", MUTEX)}
  %c = {word("%ctx", CONDITION)}
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
  %pg = {word("%ctx", GENERATION)}
  %pstop = {word("%ctx", STOP)}
  %pbusy = {word("%ctx", BUSY)}
  %psleep = {word("%ctx", SLEEPING)}
  %m = {word("%ctx", MUTEX)}
  %c = {word("%ctx", CONDITION)}
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
  %p.code = {word("%ctx", CODE)}
  %code = load atomic ptr, ptr %p.code monotonic, align 8
  %p.args = {word("%ctx", ARGS)}
  %args = load atomic ptr, ptr %p.args monotonic, align 8
  %p.from = {word("%ctx", TABLE)}
  %from = load atomic ptr, ptr %p.from monotonic, align 8
  %p.slots = {word("%ctx", SLOTS)}
  %slots = load atomic i64, ptr %p.slots monotonic, align 8
  %p.tables = {word("%ctx", TABLES)}
  %tables = load atomic ptr, ptr %p.tables monotonic, align 8
  %p.tstep = {word("%ctx", TABLE_STEP)}
  %tstep = load atomic i64, ptr %p.tstep monotonic, align 8
  %p.scratch = {word("%ctx", SCRATCH)}
  %scratch = load atomic ptr, ptr %p.scratch monotonic, align 8
  %p.sstep = {word("%ctx", SCRATCH_STEP)}
  %sstep = load atomic i64, ptr %p.sstep monotonic, align 8
  %p.base = {word("%ctx", BASE)}
  %base = load atomic i64, ptr %p.base monotonic, align 8
  %p.dec = {word("%ctx", DECIDED)}
  %dec = load atomic i64, ptr %p.dec monotonic, align 8
  %p.limit = {word("%ctx", LIMIT)}
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
