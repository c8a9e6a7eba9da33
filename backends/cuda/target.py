"""Targets: what is known of each architecture of CUDA, so that kernels can be written for it where there is none.

Source: NVIDIA, CUDA C++ Programming Guide, Technical Specifications per Compute Capability.
"""

from __future__ import annotations

import dataclasses
import functools

from nagraph.backends.gpu.target import TARGETS, GpuTarget

#: By architecture: the most shared memory of a block in KB, the most threads and blocks of a multiprocessor, multiprocessors of a device.
_LIMITS = {75: (64, 1024, 16, 40), 80: (163, 2048, 32, 108), 86: (99, 1536, 16, 84), 87: (163, 1536, 16, 16), 88: (99, 1536, 24, 84),
           89: (99, 1536, 24, 128), 90: (227, 2048, 32, 132), 100: (227, 2048, 32, 148), 103: (227, 2048, 32, 148),
           110: (227, 1536, 24, 20), 120: (99, 1536, 24, 170), 121: (99, 1536, 24, 48)}


def _known(architecture: str) -> int:
    """The architecture whose limits count: itself, or the last known one before it."""
    number = int("".join(c for c in architecture if c.isdigit()))
    return max((n for n in _LIMITS if n <= number), default=min(_LIMITS))


def resident_blocks(architecture: str) -> int:
    """The most blocks of a multiprocessor at one time."""
    return _LIMITS[_known(architecture)][2]


@functools.cache
def target_of(architecture: str, tf32: bool = False) -> GpuTarget:
    """What schedules have to know of an architecture, sm_90. tf32: of the target. Before sm_80 tensor cores have none."""
    tf32 = tf32 and _known(architecture) >= 80
    if architecture in TARGETS:
        return dataclasses.replace(TARGETS[architecture], tf32=tf32)
    shared, threads, _, count = _LIMITS[_known(architecture)]
    return dataclasses.replace(TARGETS["sm_80"], name=architecture, shared_nbytes=shared << 10, resident_threads=threads,
                               multiprocessors=count, tf32=tf32)
