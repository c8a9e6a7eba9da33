"""How much slower calls become beside another process that wants every core: `python tests/benchmarks/busy_neighbour.py`.

A training step of GPT-2 and single operations, on as many threads as there are cores. The other process computes without end
on as many threads; it is stopped and let go on by turns, and each row is timed in both states in every round, so that what
else the machine does counts for both. Shown are medians and their ratio. Shared fairly, the cores would give 2; a runtime
whose threads wait for each other pays for each thread that the system has put aside. Exits with 1 if a ratio is above 3.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from nagraph.backends.host import usable_cores
from nagraph.models.operations import CASES
from nagraph.models.workloads import operation, workload

LIMIT = 3.0
NEIGHBOUR = """
import threading
import numpy as np
from tests.backends.llvm.runtime_kernels import launch, program, table

endless = program(lambda a: a.phase(launch("work", 1, 1, 1 << 62)), 0)
for _ in range({threads}):
    threading.Thread(target=endless.run, args=(table(), 1)).start()
print("busy", flush=True)
"""


class Neighbour:
    """Another process, busy on so many threads while it is not stopped."""

    def __init__(self, threads):
        self.process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR.format(threads=threads)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"busy\n"
        self.rest()

    def rest(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def work(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def leave(self):
        self.process.kill()
        self.process.wait()


def times(call, least):
    """Seconds of calls, one after another for so many seconds in all."""
    found, end = [], time.perf_counter() + least
    while len(found) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["gpt2", *CASES])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each row, in each state, in each round")
    options = parser.parse_args()
    calls = {n: (workload("gpt2", "train") if n == "gpt2" else operation(n)).calls(None, options.threads) for n in options.names}
    for call in calls.values():
        times(call, 0.1)
    alone, busy = ({n: [] for n in calls} for _ in range(2))
    neighbour = Neighbour(options.threads)
    try:
        for _ in range(options.rounds):
            for name, call in calls.items():
                alone[name] += times(call, options.seconds)
                neighbour.work()
                busy[name] += times(call, options.seconds)
                neighbour.rest()
    finally:
        neighbour.leave()
    table, worst = Table("", "alone ms", "beside a busy process ms", "ratio", title=f"{options.threads} threads"), 0.0
    for name in calls:
        a, b = statistics.median(alone[name]), statistics.median(busy[name])
        mean = statistics.fmean(busy[name]) / statistics.fmean(alone[name])
        worst = max(worst, b / a, mean)
        table.add_row(name, f"{a * 1e3:.3f}", f"{b * 1e3:.3f}", f"{b / a:.2f} (means {mean:.2f})")
    Console(width=100).print(table)
    sys.exit(int(worst > LIMIT))


if __name__ == "__main__":
    main()
