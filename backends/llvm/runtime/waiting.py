"""Waiting: clocks, and what a thread does that has to wait for others."""

from __future__ import annotations

import sys
import time

import llvmlite.binding as llvm

#: Clocks: an exact one, and one that is quick to read and some milliseconds late, where the system has one.
CLOCK = time.CLOCK_MONOTONIC
QUICK_CLOCK = {"linux": 6, "darwin": 5}.get(sys.platform, CLOCK)
#: Looks at `done`, some microseconds together, before a waiting thread yields its core after each look.
PATIENCE = 500


def pause(triple: str = "") -> str:
    """The function @pause: an instruction that leaves the core to a sibling, and its power to others, for a moment.

    triple: LLVM's name of the machine; "" for this one. On arm64 that is `isb`, which takes about as long as x86's `pause`: `yield` does
    nothing on most of its cores.
    """
    x86 = (triple or llvm.get_default_triple()).startswith(("x86_64", "i686"))
    name, arguments, types = ("llvm.x86.sse2.pause", "", "") if x86 else ("llvm.aarch64.isb", "i32 15", "i32")
    return f"""
declare void @{name}({types})
define internal void @pause() nounwind {{
  call void @{name}({arguments})
  ret void
}}
"""


#: @now: nanoseconds of a clock.
NOW = """
declare i32 @clock_gettime(i32, ptr)

define internal i64 @now(i32 %clock) nounwind {
  %time = alloca [2 x i64]
  %r = call i32 @clock_gettime(i32 %clock, ptr %time)
  %s = load i64, ptr %time->0
  %ns = load i64, ptr %time->1
  %whole = mul i64 %s, 1000000000
  %all = add i64 %whole, %ns
  ret i64 %all
}
"""

WAITING = f"""
declare i32 @sched_yield()

; Wait until `done` has come to %end: look, then look and yield. False: the call was abandoned meanwhile, by this thread.
define internal i1 @await(ptr %me, i64 %end) nounwind {{
entry:
  %context = load ptr, ptr %me->context
  br label %look
look:
  %iteration = phi i64 [ 0, %entry ], [ %iteration1, %wait ], [ %iteration1, %yield ]
  %done = load atomic i64, ptr %context->done acquire, align 8
  %over = icmp sge i64 %done, %end
  br i1 %over, label %out, label %pause
pause:
  call void @pause()
  %iteration1 = add i64 %iteration, 1
  %long = icmp ugt i64 %iteration1, {PATIENCE}
  br i1 %long, label %yield, label %wait
wait:
  br label %look
yield:
  %y = call i32 @sched_yield()
  %on = call i1 @listen(ptr %me)
  br i1 %on, label %look, label %out
out:
  ret i1 %over
}}
"""
