"""Small kernels for the tests and the benchmark of the runtime, and programs of them."""

import functools

import numpy as np

from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch
from nagraph.backends.llvm.runtime.program import Program

#: (name, what it does to unit %i; %p0, %p1, %p2 are the pointers, or numbers, that the launch's arguments name)
_UNITS = {
    # p0[i] += 1
    "add": "%q = getelementptr i64, ptr %p0, i64 %i\n %x = load i64, ptr %q\n %y = add i64 %x, 1\n store i64 %y, ptr %q",
    # p1[i] += 3 p0[(7 i + 5) mod n2] + i + 1: reads what other chunks of the phase before have written
    "mix": """%a = mul i64 %i, 7
 %b = add i64 %a, 5
 %c = urem i64 %b, %n2
 %q = getelementptr i64, ptr %p0, i64 %c
 %r = getelementptr i64, ptr %p1, i64 %i
 %x = load i64, ptr %q
 %y = load i64, ptr %r
 %t = mul i64 %x, 3
 %u = add i64 %t, %y
 %v = add i64 %u, %i
 %w = add i64 %v, 1
 store i64 %w, ptr %r""",
    # p1 = p0[0] is odd; p1 = p0[0] < n2
    "odd": "%x = load i64, ptr %p0\n %b = and i64 %x, 1\n %y = trunc i64 %b to i8\n store i8 %y, ptr %p1",
    "less": "%x = load i64, ptr %p0\n %b = icmp ult i64 %x, %n2\n %y = zext i1 %b to i8\n store i8 %y, ptr %p1",
    # p0[i] = the scratch memory's address, then "meet" at p1 for n2
    "scratch": """%s = ptrtoint ptr %scratch to i64
 %q = getelementptr i64, ptr %p0, i64 %i
 store i64 %s, ptr %q
 %m = atomicrmw add ptr %p1, i64 1 seq_cst
 %late = call i64 @until(ptr %p1, i64 %n2)""",
    # takes n0 turns
    "work": "call void @spin(i64 %n0)",
    # p0[0] += 1, then wait for p0[0] = n1; p0[1] is 1 if that took too long
    "meet": """%m = atomicrmw add ptr %p0, i64 1 seq_cst
 %late = call i64 @until(ptr %p0, i64 %n1)
 %q = getelementptr i64, ptr %p0, i64 1
 %o = atomicrmw or ptr %q, i64 %late seq_cst""",
    # wait for p0[0] = n1, as above, and write nothing to it
    "await": """%late = call i64 @until(ptr %p0, i64 %n1)
 %q = getelementptr i64, ptr %p0, i64 1
 %o = atomicrmw or ptr %q, i64 %late seq_cst""",
}

_LOOPS = """
define internal void @spin(i64 %turns) noinline {
entry:
  br label %l
l:
  %i = phi i64 [0, %entry], [%j, %l]
  %j = add i64 %i, 1
  call void asm sideeffect "", "r"(i64 %j)
  %c = icmp slt i64 %j, %turns
  br i1 %c, label %l, label %out
out:
  ret void
}
define internal i64 @until(ptr %p, i64 %value) noinline {
entry:
  br label %l
l:
  %i = phi i64 [0, %entry], [%j, %m]
  %x = load atomic i64, ptr %p seq_cst, align 8
  %there = icmp uge i64 %x, %value
  br i1 %there, label %out, label %m
m:
  %j = add i64 %i, 1
  %y = call i32 @sched_yield()
  %c = icmp slt i64 %j, 100000000
  br i1 %c, label %l, label %out
out:
  %late = phi i64 [0, %l], [1, %m]
  ret i64 %late
}
declare i32 @sched_yield()
"""


def _kernel(name, body):
    """A loop over units. Arguments: %p0.. are the pointers at the numbers that are given, %n0.. the numbers themselves."""
    read = "".join(f"""
  %a{k} = getelementptr i64, ptr %args, i64 {k}
  %n{k} = load i64, ptr %a{k}
""" + (f"""  %t{k} = getelementptr ptr, ptr %slots, i64 %n{k}
  %p{k} = load ptr, ptr %t{k}
""" if f"%p{k}" in body else "") for k in range(3) if f"%p{k}" in body or f"%n{k}" in body)
    return f"""
define void @{name}(ptr %slots, ptr %args, i64 %start, i64 %stop, ptr %scratch) {{
entry:{read}
  br label %loop
loop:
  %i = phi i64 [ %start, %entry ], [ %next, %loop ]
 {body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %stop
  br i1 %more, label %loop, label %out
out:
  ret void
}}
"""


@functools.cache
def kernels():
    """name -> address"""
    library = Library([object_code(_LOOPS + "".join(_kernel(n, b) for n, b in _UNITS.items()))])
    return {"library": library, **{n: library.address(n) for n in _UNITS}}


def launch(name, units, grain, *arguments):
    return EncodedLaunch(kernels()[name], units, grain, arguments)


def program(write, slots, scratch_nbytes=0):
    """The program that `write(assembler)` writes."""
    a = Assembler()
    write(a)
    return Program(a.code(), slots, scratch_nbytes, keepalive=kernels()["library"])


def table(*arrays):
    return np.array([a.ctypes.data for a in arrays], np.int64)
