"""The target: the CPU that text is written for and compiled on, as LLVM and the system know it."""

from __future__ import annotations

import functools
import os

import llvmlite.binding as llvm

from nagraph.backends.host import cache_sizes
from nagraph.schedule.target import Target


@functools.cache
def code_generator() -> llvm.Target:
    """LLVM's code generator for this machine, ready to be used."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


@functools.cache
def cpu() -> tuple[str, str]:
    """The CPU's name and features, as LLVM writes them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def host() -> Target:
    """This machine.

    Vectors of 16 bytes, SSE's and NEON's, are loaded and stored in part lane after lane; AVX-512 alone multiplies by powers of two.
    """
    code_generator()
    features = llvm.get_host_cpu_features()
    nbytes = 64 if features.get("avx512f") and features.get("avx512vl") else 32 if features.get("avx2") else 16
    registers = 32 if nbytes == 64 or not llvm.get_default_triple().startswith("x86") else 16
    return Target(cpu()[0], nbytes, registers, nbytes > 16, nbytes == 64, cache_sizes(), cores=os.cpu_count() or 1)
