"""The GPU target: what schedules have to know of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from nagraph.errors import SignatureError
from nagraph.suggestions import suggestion


@dataclass(frozen=True)
class GpuTarget:
    """A GPU target is a GPU, as far as schedules follow from it. No order of additions follows from any of its numbers.

    name: as its compiler calls it. warp: threads that run in step. block_threads: the most threads of a block.
    shared_nbytes: the most shared memory of a block. registers: 32-bit registers that the threads of a multiprocessor share.
    resident_threads: the most threads that a multiprocessor holds. multiprocessors: how many of them there are.
    load_nbytes: the most that a thread loads by one instruction. doubles: whether there is a double. tf32: whether products of float32
    may round what they multiply to the 11 bits of tensor cores.
    """

    name: str
    block_threads: int
    shared_nbytes: int
    registers: int
    resident_threads: int
    multiprocessors: int
    warp: int = 32
    load_nbytes: int = 16
    doubles: bool = True
    tf32: bool = False


#: By name: A100, H100 and H200, B200; Apple's from the M1 on.
TARGETS = {t.name: t for t in (
    GpuTarget("sm_80", 1024, 163 << 10, 1 << 16, 2048, 108),
    GpuTarget("sm_90", 1024, 227 << 10, 1 << 16, 2048, 132),
    GpuTarget("sm_100", 1024, 227 << 10, 1 << 16, 2048, 148),
    GpuTarget("apple7", 1024, 32 << 10, 1 << 15, 1024, 8, doubles=False),
)}


def gpu_target(name: str) -> GpuTarget:
    """The target of this name. SignatureError if there is none."""
    if name not in TARGETS:
        raise SignatureError(f"unknown GPU target {name!r}{suggestion(name, tuple(TARGETS))}; there is {', '.join(TARGETS)}")
    return TARGETS[name]
