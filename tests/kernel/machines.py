"""Machines with other vectors and caches than this one's: kernels are compiled for them, and run here, where this CPU has their
instructions.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from nagraph.backends.llvm.emission.emit import emit
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native.machine_code import Library
from nagraph.backends.llvm.text.builder import Module
from nagraph.backends.llvm.text.target import code_generator, cpu, host
from nagraph.ir.types import DTYPES
from nagraph.kernel.form import Kernel
from nagraph.schedule.strategy import choose
from nagraph.schedule.target import Target
from nagraph.schedule.verify import problem_of

Array = np.ndarray[Any, Any]


def _x86(level: int) -> bool:
    """Whether this CPU has the instructions of a level of x86-64: 2 is SSE4.2, 3 AVX2 with FMA."""
    return llvm.get_default_triple().startswith("x86") and bool(llvm.get_host_cpu_features().get({2: "sse4.2", 3: "fma"}[level]))


#: By name, the target that text is written for, and the CPU's name and features that it is compiled for.
MACHINES: dict[str, tuple[Target, str, str]] = {
    "this": (host(), *cpu()),
    "32 bytes": (replace(host(), vector_nbytes=32, vector_registers=16, masks_memory=True, scales_by_powers=False),
                 *(("x86-64-v3", "") if _x86(3) else cpu())),
    "16 bytes": (replace(host(), vector_nbytes=16, vector_registers=16, masks_memory=False, scales_by_powers=False),
                 *(("x86-64-v2", "") if _x86(2) else cpu())),
    "small caches, many cores": (replace(host(), caches=(1 << 13, 1 << 16, 1 << 20), cores=96), *cpu()),
}
#: Whether they are machines of different instructions here.
DIFFERENT = _x86(2) and host().vector_nbytes > 16


def _object_code(machine: str, text: str, opt: int = 2) -> bytes:
    _, name, features = MACHINES[machine]
    module = llvm.parse_assembly(text)
    module.verify()
    code: bytes = code_generator().create_target_machine(cpu=name, features=features, opt=opt, jit=True).emit_object(module)
    return code


@functools.cache
def _products(machine: str) -> bytes:
    """The routine for matrix products of float32. Without optimisation: it is compiled sooner, and adds in the same order."""
    return _object_code(machine, gemm_module(DTYPES["f32"], MACHINES[machine][0]), 0)


def run_on(machine: str, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Array]) -> bytes:
    """Run a kernel on arrays as this machine runs it, writing into `outputs`; its machine code."""
    module = Module(MACHINES[machine][0])
    schedule = choose(kernel, module.target)
    assert problem_of(kernel, schedule, module.target) == ""
    emitted = emit(module, kernel, "kernel", schedule)
    text = str(module)
    code = _object_code(machine, text)
    library = Library([code, *([_products(machine)] if "@gemm" in text else [])])
    arrays = [*(np.ascontiguousarray(a) for a in inputs), *outputs]
    slots = np.array([a.ctypes.data for a in arrays] or [0], np.uintp)
    numbers = np.arange(len(arrays) + 1)
    raw = np.zeros(emitted.scratch_nbytes + 64, np.uint8)
    p, n = ctypes.c_void_p, ctypes.c_int64
    function = ctypes.CFUNCTYPE(None, p, p, n, n, p)(library.address("kernel"))
    function(slots.ctypes.data, numbers.ctypes.data, 0, emitted.units, raw.ctypes.data + -raw.ctypes.data % 64)
    return code
