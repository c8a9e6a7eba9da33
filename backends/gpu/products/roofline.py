"""The roofline rule: how long a kernel would take if nothing but a GPU's arithmetic and memory held it up, and what follows from that.

All figures of GPUs are their makers' own, and the shares of them that one reaches are assumptions, written down here so that they can be
replaced by measured ones: nothing here was measured. They choose among legal ways and change no result.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.backends.gpu.products.form import FMA, MMA, TF32, ProductTile
from nagraph.backends.gpu.products.stage_product import F32, F64, HALVES
from nagraph.backends.gpu.target import GpuTarget
from nagraph.ir.types import DType


class Peaks(NamedTuple):
    """Peaks of a GPU: multiply-adds of a multiprocessor in a cycle, by single elements of 4 and of 8 bytes, and by tensor cores of 16-bit
    floats and of tf32; cycles in a microsecond; bytes of device memory in a nanosecond.
    """

    single: int
    double: int
    halves: int
    tf32: int
    cycles: float
    bandwidth: float


#: By the name of the target: A100, H100, B200, as their makers' data sheets have it, without sparsity.
PEAKS = {
    "sm_80": Peaks(64, 32, 1024, 512, 1410, 1555),
    "sm_90": Peaks(128, 64, 2048, 1024, 1755, 3350),
    "sm_100": Peaks(128, 64, 4096, 2048, 1850, 8000),
}
#: The share of a peak that the library reaches, and that our tiles reach, for single elements and for tensor cores.
LIBRARY, OWN_SINGLE, OWN_TENSOR = 0.9, 0.7, 0.4
#: Bytes of shared memory that a multiprocessor reads in a cycle.
SHARED_BANDWIDTH = 128
#: Bytes that a multiprocessor gets of the second cache in a cycle, and bytes that one request brings.
CACHE_BANDWIDTH, SECTOR = 64, 32
#: Cycles until the elements of a step are there.
LATENCY = 600
#: Terms of a step of the library.
LIBRARY_DEPTH = 32
#: Microseconds that every launch takes.
LAUNCH = 2.0


class Work(NamedTuple):
    """What a kernel does: multiply-adds of its products, and bytes that it reads and writes once."""

    products: int
    nbytes: int


def peaks(target: GpuTarget) -> Peaks:
    """The peaks of a target."""
    return PEAKS.get(target.name, PEAKS["sm_90"])


def rate(target: GpuTarget, dtype: DType, how: str) -> int:
    """Multiply-adds of a multiprocessor in a cycle."""
    found = peaks(target)
    if how == FMA:
        return found.double if dtype == F64 else found.single
    return found.halves if how == MMA else found.tf32


def library_time(target: GpuTarget, work: Work, dtype: DType, terms: int) -> float:
    """Microseconds of a product that a library computes, of factors of a dtype: it waits for its steps as our tiles do."""
    how, found = MMA if dtype in HALVES else TF32 if target.tf32 and dtype == F32 else FMA, peaks(target)
    speed = rate(target, dtype, how) * target.multiprocessors * found.cycles * LIBRARY
    waiting = -(-terms // LIBRARY_DEPTH) * LATENCY / found.cycles
    return LAUNCH + max(work.products / speed, work.nbytes / found.bandwidth / 1000, waiting)


def tile_cycles(target: GpuTarget, tile: ProductTile, terms: int, dtype: DType, itemsize: int, resident: int) -> float:
    """Cycles in which a multiprocessor computes `resident` tiles of C side by side.

    Each step takes what is slowest: arithmetic, reading shared memory, bringing factors to it, or waiting, which tiles do together.
    """
    rows, columns, depth = tile.rows, tile.columns, tile.depth
    products, share = rows * columns * depth, OWN_SINGLE if tile.instruction == FMA else OWN_TENSOR
    arithmetic = products / (rate(target, dtype, tile.instruction) * share)
    shared = products * (1 / tile.thread_rows + 1 / tile.thread_columns) * itemsize / SHARED_BANDWIDTH
    brought = (rows * depth + max(columns, SECTOR // itemsize) * depth) * itemsize / CACHE_BANDWIDTH
    return -(-terms // depth) * max(LATENCY, resident * max(arithmetic, shared, brought))
