"""Rooflines: the peaks of a machine, and which of them bounds a kernel.

Source: Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model, 2009.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.ir.types import DTYPES, DType


class Machine(NamedTuple):
    """The peaks of the machine on `threads` threads: FLOP/s in float32 and float64, bytes/s of main memory and of the last cache."""

    cpu: str
    threads: int
    float32: float
    float64: float
    memory: float
    cache: float
    cache_nbytes: int

    def bound(self, flops: float, nbytes: float, dtype: DType) -> tuple[str, float]:
        """What holds a kernel back, and the least seconds it takes: "compute", "cache" or "memory".

        Bytes that fill less than half of the last cache are taken to be there, left by the kernel before.
        """
        place, speed = ("cache", self.cache) if nbytes < self.cache_nbytes / 2 else ("memory", self.memory)
        computing = flops / (self.float64 if dtype == DTYPES["f64"] else self.float32)
        return ("compute", computing) if computing > nbytes / speed else (place, nbytes / speed)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (f"{self.cpu}, {threads}, measured: {self.float32 / 1e9:.0f} GFLOP/s in float32, "
                f"memory {self.memory / 1e9:.0f} GB/s, cache of {self.cache_nbytes / 2**20:.0f} MB {self.cache / 1e9:.0f} GB/s")
