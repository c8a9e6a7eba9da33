"""Matrix products."""

from __future__ import annotations

from typing import Any

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.elementwise import same_dtypes
from nagraph.onnx.registry import operator


@operator("MatMul")
def matmul(x: Any, y: Any) -> Any:
    same_dtypes(x, y)
    return F.matmul(x, y)


@operator("Gemm")
def gemm(a: Any, b: Any, c: Any = None, *, alpha: float = 1.0, beta: float = 1.0, transA: bool = False, transB: bool = False) -> Any:  # noqa: N803
    """alpha a b + beta c."""
    same_dtypes(a, b)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise OnnxError(f"its operands have {len(a.shape)} and {len(b.shape)} axes, but must be matrices")
    y = F.matmul(F.transpose(a) if transA else a, F.transpose(b) if transB else b)
    y = y if alpha == 1 else _scaled(y, alpha)
    return y if c is None or beta == 0 else y + (c if beta == 1 else _scaled(c, beta))


def _scaled(x: Any, factor: float) -> Any:
    if x.dtype.kind in "iu":
        if factor != int(factor):
            raise OnnxError(f"whole numbers can't be multiplied by {factor}")
        return x * int(factor)
    return x * factor


@operator("Einsum")
def einsum(*xs: Any, equation: str) -> Any:
    same_dtypes(*xs)
    return F.einsum(equation, *xs)


@operator("MatMulInteger")
def matmul_integer(a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    """Products of 8-bit integers minus their zero points, in 32 bits."""
    wide_a, wide_b = F.astype(a, "i32"), F.astype(b, "i32")
    if a_zero is not None:
        zero = F.astype(a_zero, "i32")
        wide_a = wide_a - (F.expand_dims(zero, -1) if len(zero.shape) == 1 and zero.shape[0] > 1 else zero)
    return F.matmul(wide_a, wide_b if b_zero is None else wide_b - F.astype(b_zero, "i32"))
