"""Rows of a table changed in place, beside JAX where it is installed: `python tests/benchmarks/updates.py`.

Shown is the best of many calls: 512 rows of a donated table of 1M x 64, set or added to; a scan of 500 steps and a `while_loop` of as
many, each of which changes one row of a carry of 1000 x 64.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table

import nagraph as ng

RNG = np.random.default_rng(0)
INDEX, NEW = RNG.integers(0, 1_000_000, 512), RNG.normal(size=(512, 64)).astype("f4")
CARRY, ROWS, STEPS = np.zeros((1000, 64), "f4"), RNG.normal(size=(500, 64)).astype("f4"), 500


def milliseconds(call, rounds):
    """The best time of a call."""
    call()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def donated(step):
    """A call of a step that takes a table and gives it back; the table is kept from call to call."""
    kept = [np.zeros((1_000_000, 64), "f4")]

    def call():
        kept[0] = step(kept[0], INDEX, NEW)
        getattr(kept[0], "block_until_ready", lambda: None)()

    return call


def ours(threads):
    """The calls by name."""
    def jit(fn, **options):
        return ng.jit(fn, threads=threads, **options)

    def loop(x, rows):
        return ng.scan(lambda c, r: (ng.numpy.set_at(c, r[0], r[1]), None), x, (np.arange(STEPS), rows))[0]

    def repeated(x, rows):
        return ng.while_loop(lambda s: s[0] < STEPS, lambda s: (s[0] + 1, ng.numpy.set_at(s[1], s[0], rows[s[0]])), (0, x))[1]

    scan, repetition = jit(loop), jit(repeated)
    return {"set_at, donated": donated(jit(lambda x, i, u: ng.numpy.set_at(x, i, u), donate_argnames="x")),
            "add_at, donated": donated(jit(lambda x, i, u: ng.numpy.add_at(x, i, u), donate_argnames="x")),
            "scan": lambda: scan(CARRY, ROWS), "while_loop": lambda: repetition(CARRY, ROWS)}


def theirs():
    """The same calls of JAX; none where it is not installed."""
    try:
        import jax
    except ImportError:
        return {}
    set_rows = jax.jit(lambda x, i, u: x.at[i].set(u), donate_argnums=0)
    add_rows = jax.jit(lambda x, i, u: x.at[i].add(u), donate_argnums=0)
    scan = jax.jit(lambda x, rows: jax.lax.scan(lambda c, r: (c.at[r[0]].set(r[1]), None), x, (np.arange(STEPS), rows))[0])
    repetition = jax.jit(lambda x, rows: jax.lax.while_loop(
        lambda s: s[0] < STEPS, lambda s: (s[0] + 1, s[1].at[s[0]].set(rows[s[0]])), (0, x))[1])
    carry, rows = jax.numpy.asarray(CARRY), jax.numpy.asarray(ROWS)
    return {"set_at, donated": donated(lambda x, i, u: set_rows(jax.numpy.asarray(x), i, u)),
            "add_at, donated": donated(lambda x, i, u: add_rows(jax.numpy.asarray(x), i, u)),
            "scan": lambda: scan(carry, rows).block_until_ready(), "while_loop": lambda: repetition(carry, rows).block_until_ready()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    shown = Table(title="updates in place, milliseconds")
    for column in ("", "nagraph", "jax"):
        shown.add_column(column, justify="right" if column else "left")
    peers = theirs()
    for name, call in ours(arguments.threads).items():
        peer = f"{milliseconds(peers[name], arguments.rounds):.3f}" if name in peers else ""
        shown.add_row(name, f"{milliseconds(call, arguments.rounds):.3f}", peer)
    Console().print(shown)


if __name__ == "__main__":
    main()
