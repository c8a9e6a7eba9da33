"""Functions on scalars, compiled through the LLVM backend into functions on arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.backends.llvm.native.machine_code import Library, assembly, object_code
from nagraph.backends.llvm.text.builder import Module, i64, vector
from nagraph.backends.llvm.text.lanes import Lanes, memory_type
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import DType
from nagraph.schedule.target import Target

Rule = Callable[..., Scalar]


def text(rule: Rule, dtype: DType, operands: int = 1, width: int = 16, target: Target | None = None) -> str:
    """The LLVM text of f(x, ..., y, n): y[i] = rule(x[i], ...) for i < n, `width` elements at a time."""
    module = Module(target)
    code = module.function("f", "void", ["ptr noalias"] * (operands + 1) + ["i64"])
    lanes, element = Lanes(code, width), memory_type(dtype)
    with code.loop(i64(0), code.arguments[-1], width, known=True) as loop:
        kind = vector(width, element)
        at = [code.offset(pointer, element, loop.index) for pointer in code.arguments[:-1]]
        loaded = [lanes.scalar(dtype, code.load(kind, pointer, 4)) for pointer in at[:-1]]
        code.store(rule(lanes, *loaded).raw, at[-1], 4)
    code.ret()
    return str(module)


def compiled(rule: Rule, dtype: DType, operands: int = 1, width: int = 16,
             target: Target | None = None) -> Callable[..., np.ndarray[Any, Any]]:
    """The rule as a function of arrays of the dtype, whose size is a multiple of the width; `out` may be given."""
    library = Library([object_code(text(rule, dtype, operands, width, target))])
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (operands + 1), ctypes.c_int64)(library.address("f"))

    def run(*arrays: np.ndarray[Any, Any], out: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
        y = np.empty_like(arrays[0]) if out is None else out
        for array in (*arrays, y):
            assert array.dtype == dtype and array.flags.c_contiguous and array.size == y.size and y.size % width == 0 and y.size
        native(*(array.ctypes.data for array in arrays), y.ctypes.data, y.size)
        return y

    run.library = library  # type: ignore[attr-defined]  # it must live as long as the function
    return run


def listing(rule: Rule, dtype: DType, operands: int = 1, width: int = 16, target: Target | None = None) -> str:
    """The machine code, to be read."""
    return assembly(text(rule, dtype, operands, width))
