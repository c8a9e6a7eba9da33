"""The machine: its peaks, measured by code of our own, for rooflines.

Peaks are measured once in a process and for each number of threads: multiply-adds in registers; and a sum of two arrays,
once so large that it goes through main memory, once so small that it stays in the last cache. Main memory is what threads
share; vector units, and a way to the last cache, each core has of its own: there the peak is that of one thread, times
the threads, and a machine that is busy with something else does not lower it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from nagraph.backends.host import cpu_name, last_cache_nbytes
from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.program.functions import kernel_of
from nagraph.backends.llvm.program.images import Image
from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch
from nagraph.backends.llvm.runtime.pool import default_threads
from nagraph.backends.llvm.runtime.program import Program
from nagraph.backends.llvm.text.target import host
from nagraph.ir.builder import Builder
from nagraph.ir.types import DTYPES, DType, TensorType
from nagraph.measuring.roofline import Machine
from nagraph.ops.elementwise import add
from nagraph.program.explanation import Explanation

#: The largest array of a measurement.
MOST_NBYTES = 256 << 20
#: Turns of the loop that multiplies and adds in a unit; units.
ITERATIONS, UNITS = 4000, 16
REPEATS = 20


@functools.cache
def machine(threads: int | None = None) -> Machine:
    """The machine on `threads` threads (None: as many as there are cores), measured now."""
    count = threads or default_threads()
    cache = last_cache_nbytes()
    memory = _bandwidth(min(2 * cache, MOST_NBYTES), count)
    return Machine(cpu_name(), count, count * _flops(DTYPES["f32"]), count * _flops(DTYPES["f64"]), memory,
                   max(memory, count * _bandwidth(cache // 8, 1)), cache)


def _best(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _flops(dtype: DType) -> float:
    """Multiplications and additions a second, of numbers that stay in registers, on one thread."""
    # Sums of products side by side, enough for the latency of any CPU: four units of four cycles want sixteen.
    lanes, chains = host().lanes(dtype), 3 * host().vector_registers // 4
    library = Library([object_code(_multiply_adds(dtype, lanes, chains))])
    a = Assembler()
    a.phase(EncodedLaunch(library.address("multiply_adds"), UNITS, 1))
    program = Program(a.code(), 1, chains * host().vector_nbytes, keepalive=library)
    table = np.zeros(1, np.int64)
    return 2.0 * UNITS * ITERATIONS * chains * lanes / _best(lambda: program.run(table, 1), REPEATS)


def _multiply_adds(dtype: DType, lanes: int, chains: int) -> str:
    """A kernel that computes x = x * x + x in `chains` registers, iteration after iteration, and stores them at the end."""
    kind = "double" if dtype == DTYPES["f64"] else "float"
    v, name = f"<{lanes} x {kind}>", f"llvm.fmuladd.v{lanes}f{8 * dtype.itemsize}"
    each = range(chains)
    phis = "\n".join(f"  %x{i} = phi {v} [ zeroinitializer, %entry ], [ %y{i}, %loop ]" for i in each)
    sums = "\n".join(f"  %y{i} = call {v} @{name}({v} %x{i}, {v} %x{i}, {v} %x{i})" for i in each)
    stores = "\n".join(f"  %p{i} = getelementptr {v}, ptr %scratch, i64 {i}\n  store {v} %y{i}, ptr %p{i}" for i in each)
    return f"""
declare {v} @{name}({v}, {v}, {v})
define void @multiply_adds(ptr %table, ptr %arguments, i64 %start, i64 %stop, ptr %scratch) {{
entry:
  %units = sub i64 %stop, %start
  %iterations = mul i64 %units, {ITERATIONS}
  br label %loop
loop:
  %iteration = phi i64 [ 0, %entry ], [ %iteration1, %loop ]
{phis}
{sums}
  %iteration1 = add i64 %iteration, 1
  %more = icmp slt i64 %iteration1, %iterations
  br i1 %more, label %loop, label %out
out:
{stores}
  ret void
}}
"""


def _bandwidth(nbytes: int, threads: int) -> float:
    """Bytes a second of x += y, for arrays of `nbytes` each: two are read, one is written."""
    type = TensorType(DTYPES["f32"], (nbytes // 4,))
    with Builder() as builder:
        x, y = builder.input(type), builder.input(type)
        graph = builder.graph("stream", [add(x, y)])
    made = Explanation.of(graph, {0: 0}, kernel_of)
    calls = NativeCalls(graph, Image.of(made.program, made.plan.arena_bytes), {0: 0}, threads)
    a, b = np.zeros(type.shape, np.float32), np.ones(type.shape, np.float32)
    iterations = max(1, (16 << 20) // nbytes)

    def run() -> None:
        for _ in range(iterations):
            calls.run([a, b], {0: a})

    run()
    return 3.0 * iterations * nbytes / _best(run, REPEATS if iterations > 1 else REPEATS // 4)
