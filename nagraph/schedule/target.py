"""The target: what schedules have to know of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph.ir.types import DType


@dataclass(frozen=True)
class Target:
    """A target is a machine, as far as schedules follow from it. Its text, `str(target)`, is part of the keys of what is compiled for it.

    No order of additions follows from the sizes of its caches or the number of its cores: they decide how much is done at a time.

    name: the processor, as the code generator calls it. vector_nbytes, vector_registers: of the widest vector registers.
    masks_memory: whether one instruction loads or stores a part of a vector. scales_by_powers: whether one instruction multiplies by
    powers of two, with subnormal results right. caches: bytes of the caches of one core, the nearest first, at least two.
    line_nbytes: what one request of memory brings. way_nbytes: memory at multiples of so many bytes shares a set of the first cache.
    cores: threads that run at one time.
    """

    name: str
    vector_nbytes: int
    vector_registers: int
    masks_memory: bool
    scales_by_powers: bool
    caches: tuple[int, ...]
    line_nbytes: int = 64
    way_nbytes: int = 4096
    cores: int = 1

    def lanes(self, dtype: DType) -> int:
        """Elements of a dtype in one vector register."""
        return self.vector_nbytes // dtype.itemsize

    @property
    def near_nbytes(self) -> int:
        """Bytes of the second cache: what a thread works on should stay in it."""
        return self.caches[1]
