"""The largest error of each elementary function, compiled for this CPU, and its time.

    python tests/benchmarks/function_errors.py [--step N] [--samples N] [name ...]

float32: over all 2^32 numbers against float64 (--step N: one block of 4 Mi numbers in N); functions of two operands over
sampled pairs. float64: over samples against long double, erf and erfc over a hundredth as many against mpmath. Errors are
in units of the last place of the exact result; nanoseconds an element are of 65,536 numbers in cache, on one core.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import mpmath as mp
import numpy as np
from rich.console import Console
from rich.table import Table

from nagraph import elementary
from tests.kernel.compiled import compiled
from tests.kernel.references import BINARY, F32, F64, errors, pairs, reference, samples

Array = np.ndarray[Any, Any]
BLOCK = 1 << 22
mp.mp.prec = 100
#: Where the time is taken.
POSITIVE = {"log", "log2", "log10", "sqrt", "rsqrt", "power", "arccosh"}
WITHIN_ONE = {"arcsin", "arccos", "arctanh"}


def all_floats(step: int) -> Iterator[tuple[Array, ...]]:
    for start in range(0, 1 << 32, BLOCK * step):
        yield (np.arange(start, start + BLOCK, dtype=np.uint32).view(np.float32),)


def sampled(name: str, dtype: Any, count: int) -> Iterator[tuple[Array, ...]]:
    size = min(count, BLOCK) // 16 * 16
    for seed in range(-(-count // size)):
        rng = np.random.default_rng(seed)
        yield pairs(dtype, size, rng) if name in BINARY else (samples(dtype, size, rng),)


def exact(name: str, dtype: Any) -> Any:
    if dtype == F64 and name in ("erf", "erfc"):
        f = getattr(mp, name)

        def slowly(x: Array) -> Array:
            high = [f(mp.mpf(float(v))) for v in x]
            first = np.array([float(h) for h in high])
            rest = np.array([float(h - mp.mpf(float(v))) for h, v in zip(high, first)])
            return first.astype(np.longdouble) + rest

        def wide(x: Array) -> Array:
            y = slowly(np.clip(np.nan_to_num(x), -30, 30))  # beyond 30 both are what they are there
            return np.where(np.isnan(x), x, np.copysign(y, x) if name == "erf" else y)

        return wide
    return reference(name, dtype)


def worst(name: str, dtype: Any, blocks: Iterator[tuple[Array, ...]]) -> tuple[float, str]:
    """The largest error and where it is. What is rounded correctly is not looked at further."""
    run, wide = compiled(getattr(elementary, name), dtype, 2 if name in BINARY else 1), exact(name, dtype)
    most, where, off = 0.0, "", False
    for arrays in blocks:
        y = run(*arrays)
        with np.errstate(all="ignore"):
            true = wide(*arrays)
            nearest = true.astype(dtype)
            bits = np.uint32 if dtype == F32 else np.uint64
            different = (y.view(bits) != nearest.view(bits)) & ~(np.isnan(y) & np.isnan(nearest))
        at = np.flatnonzero(different)
        if at.size:
            off = True
            found = errors(y[at], true[at])
            k = int(np.argmax(found))
            if found[k] > most:
                most, where = float(found[k]), ", ".join(str(a[at[k]]) for a in arrays)
    return (most, where) if off else (0.5, "correctly rounded")


def nanoseconds(name: str, dtype: Any) -> float:
    count = 1 << 16
    low, high = (-0.99, 0.99) if name in WITHIN_ONE else (1.0, 8.0) if name in POSITIVE else (-8.0, 8.0)
    x, y, z = np.linspace(low, high, count).astype(dtype), np.linspace(1, 3, count).astype(dtype), np.empty(count, dtype)
    operands = (x, y) if name in BINARY else (x,)
    run, best = compiled(getattr(elementary, name), dtype, len(operands)), np.inf
    for _ in range(200):
        start = time.perf_counter()
        run(*operands, out=z)
        best = min(best, time.perf_counter() - start)
    return best / count * 1e9


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=elementary.__all__)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000_000)
    options = parser.parse_args()
    table = Table("function", "float32 error", "at", "ns", "float64 error", "at", "ns")
    for name in options.names:
        row = [name]
        for dtype in (F32, F64):
            blocks = all_floats(options.step) if dtype == F32 and name not in BINARY else sampled(
                name, dtype, options.samples // (100 if dtype == F64 and name in ("erf", "erfc") else 1))
            error, where = worst(name, dtype, blocks)
            row += [f"{error:.3f}", where, f"{nanoseconds(name, dtype):.2f}"]
        table.add_row(*row)
        print(*row, flush=True)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
