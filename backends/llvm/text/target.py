"""The target: the CPU that text is written for, as LLVM knows it."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm


@functools.cache
def target() -> llvm.Target:
    """LLVM's target for this machine, ready to generate code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


@functools.cache
def cpu() -> tuple[str, str]:
    """The CPU's name and features, as LLVM writes them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def vector_nbytes() -> int:
    """Bytes of the widest vector register."""
    target()
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") and features.get("avx512vl") else 32 if features.get("avx2") else 16


@functools.cache
def scales_by_powers() -> bool:
    """Whether one instruction multiplies by powers of two, with subnormal results right: AVX-512 has it."""
    return vector_nbytes() == 64


@functools.cache
def masks_memory() -> bool:
    """Whether one instruction loads or stores a part of a vector: those of 16 bytes, SSE's and NEON's, go lane after lane."""
    return vector_nbytes() > 16


@functools.cache
def vector_registers() -> int:
    """The number of vector registers of that size."""
    return 32 if vector_nbytes() == 64 or not llvm.get_default_triple().startswith("x86") else 16
