"""What arm64 runs, made on any machine: LLVM assembles it for NEON, whose vectors have 16 bytes and no masks."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest

import nagraph as ng
from nagraph import elementary
from nagraph.backends.llvm.emission import emit
from nagraph.backends.llvm.gemm import gemm_module
from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.text.builder import Module
from nagraph.backends.llvm.text.target import host
from nagraph.ir.types import DTYPES
from nagraph.schedule.strategy import choose
from tests.kernel.compiled import text
from tests.kernel.references import BINARY, F32

NBYTES = 16
NEON = replace(host(), name="neoverse-n1", vector_nbytes=NBYTES, vector_registers=32, masks_memory=False, scales_by_powers=False)


@functools.cache
def target():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        return llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this LLVM knows no arm64")


def functions_of(written):
    """The instructions of each function that LLVM makes of a text, by its name."""
    listed = target().create_target_machine(cpu="neoverse-n1", opt=2, jit=True).emit_assembly(llvm.parse_assembly(written))
    found = {}
    for line in listed.splitlines():
        if label := re.match(r"(\w+):", line):
            lines = found.setdefault(label[1], [])
        elif line.startswith("\t") and line[1] != "." and found:
            lines.append(line.strip())
    return found


def of(lines, pattern):
    return [line for line in lines if re.match(pattern, line)]


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_sums_of_products_stay_in_registers(name):
    """Each micro-kernel has one fma for each vector of its tile: no lane is loaded alone, nothing goes to the stack in between."""
    dtype = DTYPES[name]
    lanes = NBYTES // dtype.itemsize
    listed = functions_of(gemm_module(dtype, NEON))
    for rows, width in [(12, 2 * lanes), (12, lanes), (8, 2 * lanes), (4, 2 * lanes), (1, 8 * lanes)]:
        lines = listed[f"kernel_{rows}x{width}"]
        assert len(of(lines, r"fmla\tv\d+\.(4s|2d)")) == rows * width // lanes
        assert not of(lines, r"ld1\t|st1\t|bl\t|(ldr|str)\tq\d+, \[sp")


@pytest.mark.parametrize("name", elementary.__all__)
def test_functions_are_vector_instructions(name):
    lines = functions_of(text(getattr(elementary, name), F32, 2 if name in BINARY else 1, 4, NEON))["f"]
    assert of(lines, r"f(ml[as]|sqrt)\tv\d+\.(4s|2d)") and not of(lines, r"blr?\t")


@pytest.mark.parametrize("size", [3, 16, 37, 64, 1003])
def test_lanes_at_the_end_of_the_grid(size):
    """Of whole blocks no lane is asked for, and past the end nothing is written."""
    rng = np.random.default_rng(size)
    x, y = rng.normal(size=(2, 5, size)).astype(np.float32)
    (kernel,) = ng.jit(lambda x, y: x * y + x).lower(x, y).executable.kernels
    module = Module(NEON)
    emitted = emit.emit(module, kernel, "f", choose(kernel, NEON))
    assert not of(functions_of(str(module))["f"], r"tbn?z\t")
    library, room = Library([object_code(str(module))]), np.full(5 * size + 64, 77, np.float32)
    slots = np.array([a.ctypes.data for a in (x, y, room)], np.int64)
    order = np.arange(3)
    arguments = [ctypes.c_void_p(slots.ctypes.data), ctypes.c_void_p(order.ctypes.data), ctypes.c_int64(0), ctypes.c_int64(emitted.units)]
    ctypes.CFUNCTYPE(None, *map(type, arguments), ctypes.c_void_p)(library.address("f"))(*arguments, None)
    np.testing.assert_allclose(room[:5 * size].reshape(5, size), x * y + x, rtol=1e-6, atol=1e-6)
    assert (room[5 * size:] == 77).all()
