"""What the runtime costs beside the work: `python tests/benchmarks/runtime_overhead.py`.

Programs of phases with next to no work, on one and on more threads: nanoseconds of a phase, from the difference of a long
and a short program (with so little to do, the first thread often does it all); the same with a chunk of about a microsecond
for each thread, beyond that microsecond; microseconds of a call of a program with one phase, back to back (workers still look
for work) and after a pause (they sleep). Shown are the best of many, which need as many idle cores as threads.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from nagraph.backends.llvm.native.machine_code import object_code
from nagraph.backends.llvm.runtime.driver import driver_text
from tests.backends.llvm.runtime_kernels import launch, program, table

X = np.zeros(64, np.int64)


def seconds(p, threads, rounds, pause=0.0):
    """The best time of a call."""
    t, best = table(X), float("inf")
    for _ in range(rounds):
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        p.run(t, threads)
        best = min(best, time.perf_counter() - start)
    return best


def phases(chunks, turns, work):
    """A loop of `turns` phases of as many chunks."""
    def write(a):
        with a.loop(turns):
            a.phase(launch("work", chunks, 1, work))
        a.phase(launch("work", 2, 1, 0))  # so that there is something for a second thread
    return program(write, 1)


def nanoseconds(threads, chunks, work=0, turns=400):
    """The time of a phase."""
    many, few = phases(chunks, turns, work), phases(chunks, turns // 10, work)
    return (seconds(many, threads, 500) - seconds(few, threads, 500)) / (turns - turns // 10) * 1e9


#: Turns of the kernel "work" that take about a microsecond.
MICROSECOND = 3000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    threads = parser.parse_args().threads
    shown = Table(title="overhead of the runtime")
    shown.add_column("")
    for n in threads:
        shown.add_column(f"{n} threads", justify="right")
    for chunks in (1, 2, 8):
        shown.add_row(f"phase of {chunks} chunks, ns", *(f"{nanoseconds(n, chunks):.0f}" for n in threads))
    unit = nanoseconds(1, 1, MICROSECOND) - nanoseconds(1, 1)
    beyond = (nanoseconds(n, n, MICROSECOND) - unit for n in threads)
    shown.add_row(f"a chunk of {unit:.0f} ns for each thread, ns beyond it", *(f"{ns:.0f}" for ns in beyond))
    call = program(lambda a: a.phase(launch("work", 2, 1, 0)), 1)
    for n in threads:
        seconds(call, n, 10)
    shown.add_row("call, back to back, us", *(f"{seconds(call, n, 3000) * 1e6:.2f}" for n in threads))
    shown.add_row("call after a pause, us", *(f"{seconds(call, n, 100, 0.002) * 1e6:.2f}" for n in threads))
    start = time.perf_counter()
    object_code(driver_text())
    shown.add_row("compiling the driver, ms", f"{(time.perf_counter() - start) * 1e3:.0f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
