"""What a call costs beside its work: `python tests/benchmarks/call_overhead.py`.

The functions do next to nothing: they add small arrays, or add one to each leaf of a tree, or use one leaf of many. The time
of the native program alone is measured as well and taken off; what is left is Python's: taking arguments apart, looking at
them, making results. Medians in microseconds, on one thread. Exits with 1 above 5 µs for up to four flat arrays, or above
0.7 µs for each leaf more. Then what gradients cost outside of traces, where each call traces the function, and under `jit`.
"""

import functools
import statistics
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

import nagraph as ng

FLAT_LIMIT, LEAF_LIMIT = 5.0, 0.7
REPEATS = 15


def microseconds(call, seconds=0.02):
    """The median of some rounds."""
    call()
    start = time.perf_counter()
    call()
    turns = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    rounds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(turns):
            call()
        rounds.append((time.perf_counter() - start) / turns)
    return statistics.median(rounds) * 1e6


def work(jitted, *args):
    """The native program alone, on the arrays of one more call."""
    from nagraph.backends.llvm.runtime.pool import driver

    executable = jitted.lower(*args).executable
    arrays = [np.array(x) for x in ng.tree.leaves(args)]
    kept = arrays, executable.plain(arrays)
    memory = executable.calls.image.program._free[1][0]
    run = driver().call
    found = microseconds(lambda: run(None, memory.address, True))
    del kept
    return found


def tree_of(count):
    return {f"layer{i}": {"weight": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)} for i in range(count // 2)}


def grown(tree):
    return ng.tree.map(lambda x: x + 1, tree)


def first(tree, x):
    return x + tree["layer0"]["bias"]


def measured(jitted, call, *args):
    """Microseconds of a call, and of its work alone."""
    return microseconds(call), work(jitted, *args)


def flat(count):
    jitted, args = ng.jit(lambda *xs: sum(xs[1:], xs[0]), threads=1), [np.ones(2, np.float32) for _ in range(count)]
    return measured(jitted, lambda: jitted(*args), *args)


def updated(count, donate):
    jitted, tree = ng.jit(grown, threads=1, donate_argnames="tree" if donate else ()), tree_of(count)
    return measured(jitted, lambda: jitted(tree), tree)


def read(count, bind):
    jitted, tree, x = ng.jit(first, threads=1), tree_of(count), np.ones(2, np.float32)
    bound = jitted.bind(tree)
    return measured(jitted, (lambda: bound(x)) if bind else (lambda: jitted(tree, x)), tree, x)


def few(x):
    return (np.sin(x) * x).sum()


def many(x):
    for _ in range(2):
        x = np.tanh(x * x + 0.5)
        x = np.exp(-x) / (1 + np.abs(x))
    return np.mean(np.sqrt(x * x))


#: Name, leaves of the call for each leaf of the tree, function of the number of leaves.
TREES = (("tree in, tree out", 2, lambda n: updated(n, False)), ("the same, donated", 2, lambda n: updated(n, True)),
         ("tree in", 1, lambda n: read(n, False)), ("tree bound", 1, lambda n: read(n, True)))


def main():
    table = Table("call", "all", "work", "overhead", "for each leaf more", box=None)
    late = False
    for count in (1, 2, 4):
        whole, alone = flat(count)
        late |= whole - alone > FLAT_LIMIT
        table.add_row(f"{count} arrays", f"{whole:.2f}", f"{alone:.2f}", f"{whole - alone:.2f}", "")
    for title, each, run in TREES:
        before = 0, 0.0
        for count in (10, 50, 200):
            whole, alone = run(count)
            now = each * count, whole - alone
            slope = (now[1] - before[1]) / (now[0] - before[0])
            late |= before[0] > 0 and slope > LEAF_LIMIT
            shown = f"{slope:.3f}" if before[0] else ""
            table.add_row(f"{title}, {count} leaves", f"{whole:.2f}", f"{alone:.2f}", f"{whole - alone:.2f}", shown)
            before = now
    Console().print(table)
    table = Table("gradient", "nodes of the function", "outside of traces", "jitted", box=None)
    for f in (few, many):
        x, eager, jitted = np.linspace(-1, 1, 64, dtype=np.float32), ng.grad(f), ng.jit(ng.grad(f), threads=1)
        seconds = (microseconds(functools.partial(g, x)) for g in (eager, jitted))
        table.add_row(f.__name__, str(len(ng.trace(f, x).nodes)), *(f"{s:.1f}" for s in seconds))
    Console().print(table)
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
