"""Pools of libraries: workers that start once, in memory that the caller gives, and run until their pool is stopped."""

from __future__ import annotations

from nagraph.backends.llvm.runtime.records import ALIGNMENT, CONTEXT_WORDS, EXPORTED, WORKER


def pools(library: str) -> str:
    """The functions of pools that a library exports."""
    of_worker = 8 * len(WORKER)
    return f"""
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_destroy(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_destroy(ptr)

define internal ptr @worker(ptr %worker) nounwind {{
  %pool = load ptr, ptr %worker->pool
  %number = load i64, ptr %worker->number
  call void @work(ptr %pool, i64 %number)
  ret ptr null
}}

define i64 @{EXPORTED}{library}_pool_nbytes(i32 %threads) nounwind {{
  %n = sext i32 %threads to i64
  %some = call i64 @llvm.smax.i64(i64 %n, i64 1)
  %workers = sub i64 %some, 1
  %theirs = mul i64 %workers, {of_worker}
  %nbytes = add i64 %theirs, {8 * (CONTEXT_WORDS + 1) + ALIGNMENT}
  ret i64 %nbytes
}}

; The worker `number` (1, 2, ...) of a pool.
define internal ptr @crew_member(ptr %pool, i64 %number) nounwind {{
  %before = sub i64 %number, 1
  %ahead = mul i64 %before, {of_worker}
  %at = add i64 %ahead, {8 * (CONTEXT_WORDS + 1)}
  %worker = getelementptr inbounds i8, ptr %pool, i64 %at
  ret ptr %worker
}}

; As many workers as the system starts, up to threads - 1. The pool, aligned; null without memory.
define ptr @{EXPORTED}{library}_pool_start(ptr %memory, i32 %wanted) nounwind {{
entry:
  %none = icmp eq ptr %memory, null
  br i1 %none, label %nothing, label %begin
begin:
  %address = ptrtoint ptr %memory to i64
  %further = add i64 %address, {ALIGNMENT - 1}
  %aligned = and i64 %further, -{ALIGNMENT}
  %pool = inttoptr i64 %aligned to ptr
  call void @llvm.memset.p0.i64(ptr %pool, i8 0, i64 {8 * (CONTEXT_WORDS + 1)}, i1 false)
  %r0 = call i32 @pthread_mutex_init(ptr %pool->mutex, ptr null)
  %r1 = call i32 @pthread_cond_init(ptr %pool->condition, ptr null)
  %threads = sext i32 %wanted to i64
  br label %next
next:
  %number = phi i64 [ 1, %begin ], [ %number1, %started ]
  %more = icmp slt i64 %number, %threads
  br i1 %more, label %start, label %done
start:
  %worker = call ptr @crew_member(ptr %pool, i64 %number)
  store ptr %pool, ptr %worker->pool
  store i64 %number, ptr %worker->number
  %r = call i32 @pthread_create(ptr %worker->handle, ptr null, ptr @worker, ptr %worker)
  %good = icmp eq i32 %r, 0
  br i1 %good, label %started, label %done
started:
  %number1 = add i64 %number, 1
  br label %next
done:
  store i64 %number, ptr %pool->crew
  ret ptr %pool
nothing:
  ret ptr null
}}

; The threads of a call in this pool, its caller's included.
define i32 @{EXPORTED}{library}_pool_threads(ptr %pool) nounwind {{
entry:
  %none = icmp eq ptr %pool, null
  br i1 %none, label %one, label %some
some:
  %crew = load i64, ptr %pool->crew
  %threads = trunc i64 %crew to i32
  ret i32 %threads
one:
  ret i32 1
}}

define void @{EXPORTED}{library}_pool_stop(ptr %pool) nounwind {{
entry:
  %none = icmp eq ptr %pool, null
  br i1 %none, label %out, label %begin
begin:
  store atomic i64 1, ptr %pool->stop seq_cst, align 8
  call void @wake(ptr %pool)
  %crew = load i64, ptr %pool->crew
  br label %next
next:
  %number = phi i64 [ 1, %begin ], [ %number1, %join ]
  %more = icmp slt i64 %number, %crew
  br i1 %more, label %join, label %done
join:
  %worker = call ptr @crew_member(ptr %pool, i64 %number)
  %handle = load i64, ptr %worker->handle
  %r = call i32 @pthread_join(i64 %handle, ptr null)
  %number1 = add i64 %number, 1
  br label %next
done:
  %r0 = call i32 @pthread_cond_destroy(ptr %pool->condition)
  %r1 = call i32 @pthread_mutex_destroy(ptr %pool->mutex)
  br label %out
out:
  ret void
}}
"""
