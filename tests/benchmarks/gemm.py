"""Matrix products on one core beside OpenBLAS, and as shares of the peak that fma reaches in a loop of the same run.

    OPENBLAS_NUM_THREADS=1 taskset -c 1 python tests/benchmarks/gemm.py [f32|f64] [NN|NT|TN ...]

Both routines are called in turns from a loop in machine code: OpenBLAS is NumPy's own, by its C interface, so that
the time of Python's calls is left out. The last column is np.matmul, which has it in. Shown are medians of ratios.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nagraph.backends.llvm.gemm import gemm_module, scratch_nbytes
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.native import machine_code
from nagraph.backends.llvm.text.builder import Module, constant, i64
from nagraph.backends.llvm.text.target import host
from nagraph.backends.llvm.text.vectors import fma
from nagraph.ir.types import DTYPES, DType
from nagraph.kernel.contraction import chain_of

SIZES = [(64, 64, 64), (128, 384, 128), (128, 128, 32), (128, 32, 128), (256, 256, 256), (2048, 384, 128), (2048, 128, 128),
         (2048, 512, 128), (2048, 128, 512), (1024, 1024, 1024), (512, 2304, 768), (512, 768, 3072), (4160, 512, 128),
         (2080, 256, 256), (65, 65, 32), (65, 32, 65), (128, 784, 512), (2048, 576, 192), (2048, 1024, 192), (2048, 192, 512),
         (128, 512, 2048), (784, 512, 128), (96, 512, 512), (256, 256, 16384), (37, 53, 29), (1000, 10, 256), (7, 300, 90),
         (1, 1000, 512), (1000, 1, 512)]
ROUNDS = 12
SECONDS = 0.004  # of one measurement
CHAINS = 16
ALIGN = 64
ENUMS = {"N": 111, "T": 112}  # CBLAS's names of layouts

Timed = Callable[[int], float]


def driver(tile: Tile) -> str:
    """gemm: calls a routine of ours so many times; blas: one with CBLAS's arguments; peak: independent chains of fma."""
    module = Module()
    kinds = ["ptr", "i64", "i64", "ptr", "i64", "i64", "ptr", *["i64"] * 7, "ptr", "ptr", "i64", "ptr", "ptr"]
    code = module.function("gemm", "void", ["ptr", "i64", *kinds])
    with code.loop(i64(0), code.arguments[1]):
        code.do(f"call void %a0({', '.join(map(str, code.arguments[2:]))})")
    code.ret()
    real = tile.element
    kinds = ["i32", "i32", "i32", "i64", "i64", "i64", real, "ptr", "i64", "ptr", "i64", real, "ptr", "i64"]
    code = module.function("blas", "void", ["ptr", "i64", *kinds])
    with code.loop(i64(0), code.arguments[1]):
        code.do(f"call void %a0({', '.join(map(str, code.arguments[2:]))})")
    code.ret()
    code = module.function("peak", "void", ["ptr", "i64"])
    x = code.load(tile.vector, code.arguments[0], tile.size)
    with code.loop(i64(0), code.arguments[1], carried=[constant(tile.vector, "0")] * CHAINS) as loop:
        loop.carried = [fma(code, x, x, s) for s in loop.carried]
    for i, s in enumerate(loop.carried):
        code.store(s, code.offset(code.arguments[0], tile.vector, i64(i)), tile.size)
    code.ret()
    return str(module)


def openblas(name: str) -> int:
    (path,) = (Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas64*")
    found = ctypes.cast(getattr(ctypes.CDLL(str(path)), f"scipy_cblas_{name}64_"), ctypes.c_void_p).value
    assert found is not None
    return found


class Bench:
    """Measures of one dtype."""

    def __init__(self, short: str):
        self.dtype = DTYPES[short]
        self.tile = Tile(self.dtype, host())
        start = time.process_time()
        text = gemm_module(self.dtype, host())
        middle = time.process_time()
        code = machine_code.object_code(text)
        times = middle - start, time.process_time() - middle
        print(f"{short}: text {1e3 * times[0]:.0f} ms, code {1e3 * times[1]:.0f} ms, {len(code)} bytes")
        self.library, self.loops = machine_code.Library([code]), machine_code.Library([machine_code.object_code(driver(self.tile))])
        self.routine = self.library.address(f"gemm_{self.tile.suffix}")
        self.blas = openblas("sgemm" if short == "f32" else "dgemm")
        self.scratch = np.zeros(scratch_nbytes(self.dtype, host()), np.uint8)
        self.rng = np.random.default_rng(0)

    def matrix(self, rows: int, columns: int, layout: str) -> np.ndarray[Any, Any]:
        """Of small whole numbers, so that all sums are exact."""
        made = aligned((rows, columns) if layout == "N" else (columns, rows), self.dtype)
        made[:] = self.rng.integers(-3, 4, made.shape)
        return made if layout == "N" else made.T

    def peak(self) -> Timed:
        """One turn is CHAINS vectors of fma."""
        data = np.zeros(CHAINS * self.tile.lanes, self.dtype)
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.loops.address("peak"))
        return timed(lambda n: call(data.ctypes.data, n))

    def ours(self, a: Any, b: Any, c: Any, batches: int = 1, offsets: tuple[Any, Any] | None = None) -> Timed:
        (m, k), n = a.shape, b.shape[1]
        tables = [o.ctypes.data for o in offsets] if offsets else [None, None]
        call = foreign(self.loops.address("gemm"))
        steps = [s // self.dtype.itemsize for s in (*a.strides, *b.strides, c.strides[0])]
        size = m, n, k, batches, *chain_of(k, batches)
        fixed = (a.ctypes.data, *steps[:2], b.ctypes.data, *steps[2:4], c.ctypes.data, steps[4], *size, *tables, 0)
        return timed(lambda reps: call(self.routine, reps, *fixed, self.scratch.ctypes.data, None))

    def theirs(self, a: Any, b: Any, c: Any, layouts: str) -> Timed:
        (m, k), n, size = a.shape, b.shape[1], self.dtype.itemsize
        leading = [max(x.strides) // size for x in (a, b, c)]
        real = ctypes.c_float if size == 4 else ctypes.c_double
        p, i, w = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        call = ctypes.CFUNCTYPE(None, p, w, i, i, i, w, w, w, real, p, w, p, w, real, p, w)(self.loops.address("blas"))
        fixed = (101, *(ENUMS[x] for x in layouts), m, n, k, 1.0, a.ctypes.data, leading[0], b.ctypes.data, leading[1], 0.0,
                 c.ctypes.data, leading[2])
        return timed(lambda reps: call(self.blas, reps, *fixed))

    def row(self, m: int, n: int, k: int, layouts: str) -> tuple[float, float, float]:
        """(share of the peak, ratio to OpenBLAS, ratio to np.matmul)."""
        a, b = self.matrix(m, k, layouts[0]), self.matrix(k, n, layouts[1])
        c, d, e = (aligned((m, n), self.dtype) for _ in range(3))
        turns = 2 * m * n * k / (2 * CHAINS * self.tile.lanes)
        numpy = timed(lambda reps: repeat(reps, lambda: np.matmul(a, b, out=e)))
        found = compare(self.ours(a, b, c), self.theirs(a, b, d, layouts), numpy, self.peak(), counts=(1, 1, 1, turns))
        assert (c == d).all() and (c == e).all(), (m, n, k, layouts)
        return found[2], found[0], found[1]

    def convolution(self) -> float:
        """Nine taps of 64 channels, 32 pixels of 64 channels: its share of the peak."""
        k, m, n, taps, line = 64, 32, 64, 9, 34
        x, w, c = self.matrix(3 * line, k, "N"), self.matrix(taps * k, n, "N"), aligned((m, n), self.dtype)
        offsets = (np.array([(i * line + j) * k for i in range(3) for j in range(3)]), np.arange(taps) * k * n)
        run = self.ours(x[:m], w[:k], c, taps, offsets)
        found = compare(run, self.peak(), counts=(1, 2 * m * n * k * taps / (2 * CHAINS * self.tile.lanes)))
        windows = [x[o // k:o // k + m] @ w[t * k:t * k + k] for t, o in enumerate(offsets[0])]
        assert (c == sum(windows)).all()
        return found[0]


def aligned(shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
    """Zeros that begin where a cache line does, as those that the backend allocates."""
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.zeros(nbytes + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start:start + nbytes].view(dtype).reshape(shape)


def foreign(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, *(ctypes.c_void_p if k == "p" else ctypes.c_int64 for k in "pn" + "pnnpnnpnnnnnnnppnpp"))(address)


def repeat(n: int, call: Callable[[], object]) -> None:
    for _ in range(n):
        call()


def timed(run: Callable[[int], object]) -> Timed:
    def seconds(n: int) -> float:
        start = time.thread_time()
        run(n)
        return (time.thread_time() - start) / n

    return seconds


def compare(first: Timed, *others: Timed, counts: tuple[float, ...]) -> list[float]:
    """How much longer the others take than the first: medians over rounds, each with all in turn, begun by another one."""
    every = (first, *others)
    turns = []
    for run in every:
        n = 1
        while run(n) * n < SECONDS / 2:
            n *= 2
        turns.append(n)
    rounds = []
    for start in range(ROUNDS):
        found = {}
        for i in (*range(start % len(every), len(every)), *range(start % len(every))):
            found[i] = every[i](turns[i]) * counts[i]
        rounds.append(found)
    return [statistics.median(r[i] / r[0] for r in rounds) for i in range(1, len(every))]


def main() -> None:
    short = next((a for a in sys.argv[1:] if a in ("f32", "f64")), "f32")
    layouts = [a for a in sys.argv[1:] if len(a) == 2] or ["NN", "NT", "TN"]
    bench = Bench(short)
    print(f"3x3 convolution, 64 channels: {100 * bench.convolution():.0f} % of peak")
    print("m x n x k" + "".join(f"{x + ': peak':>16} {'BLAS':>6} {'NumPy':>6}" for x in layouts))
    for m, n, k in SIZES:
        rows = [bench.row(m, n, k, x) for x in layouts]
        print(f"{m}x{n}x{k}".ljust(16) + "".join(f"{100 * r[0]:8.0f} % {r[1]:6.2f} {r[2]:6.2f}   " for r in rows), flush=True)


if __name__ == "__main__":
    main()
