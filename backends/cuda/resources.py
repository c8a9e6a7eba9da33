"""Resources: what a function takes of a multiprocessor, and how many of its threads are there at one time.

Source: NVIDIA, CUDA C++ Programming Guide, Technical Specifications per Compute Capability.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.backends.cuda.driver import Function
from nagraph.backends.cuda.target import resident_blocks, target_of

#: Registers are given to a warp by so many, shared memory to a block by so many bytes, and the system takes so many of each block.
REGISTER_UNIT, SHARED_UNIT, SYSTEM_SHARED = 256, 128, 1024


class Resources(NamedTuple):
    """What launches of a function take: threads of a block, registers of a thread, bytes of a block's shared memory and of spills.

    occupancy: the share of a multiprocessor's threads that are there at one time when there are many blocks.
    """

    name: str
    launches: int
    blocks: int
    threads: int
    registers: int
    shared_nbytes: int
    spilled_nbytes: int
    occupancy: float

    @classmethod
    def of(cls, function: Function, launches: int, architecture: str) -> Resources:
        """Those of a function that was built for an architecture."""
        x, y, z = function.grid
        return cls(function.name, launches, x * y * z, function.threads, function.built.registers, function.shared_nbytes,
                   function.built.spilled_nbytes, _occupancy(function, architecture))


def _occupancy(function: Function, architecture: str) -> float:
    target = target_of(architecture)
    warps = -(-function.threads // target.warp)
    registers = -(-max(function.built.registers, 1) * target.warp // REGISTER_UNIT) * REGISTER_UNIT * warps
    shared = -(-(function.shared_nbytes + SYSTEM_SHARED) // SHARED_UNIT) * SHARED_UNIT
    resident = target.resident_threads // target.warp
    blocks = min(resident_blocks(architecture), resident // warps, target.registers // registers,
                 (target.shared_nbytes + SYSTEM_SHARED) // shared)
    return blocks * warps / resident
