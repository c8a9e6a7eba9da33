"""Products by cuBLAS: plain matrix products, on the current stream, in float32 and float64 without rounding what is multiplied.

Source: NVIDIA, cuBLAS, cublasGemmStridedBatchedEx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.ir.types import DTYPES

#: cuBLAS's numbers of dtypes, of what sums are made in, and of the algorithm that it chooses; of ways to multiply float32.
TYPES = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}
SUMS = {"f32": 68, "f64": 70}
TF32_SUMS, CHOSEN, EXACT = 77, -1, 0


def product_of(product: Any, cuda: Any, cublas: Any) -> Callable[[Sequence[int]], None]:
    """A library product (`nagraph.backends.gpu.products.library`), as a function of the addresses of its operands.

    cuda, cublas: CuPy's modules. cuBLAS takes matrices whose columns lie side by side, so C = A B is C' = B' A' to it; if C itself lies so,
    it is what it is.
    """
    one, zero = (np.full(1, value, DTYPES[product.sums]) for value in (1, 0))
    left, right, m, n = (product.a, product.b, product.m, product.n) if product.c.transposed else (
        product.b, product.a, product.n, product.m)
    # Whether what cuBLAS is to read as columns lies in rows: of factors of C that lies in columns, those that do not; else the others.
    turned = [int(x.transposed != product.c.transposed) for x in (left, right)]
    sums = TF32_SUMS if product.tf32 else SUMS[product.sums]
    matrices = [(x.operand, x.offset * DTYPES[x.dtype].itemsize, TYPES[x.dtype], x.pitch, x.batch) for x in (left, right, product.c)]

    def run(addresses: Sequence[int]) -> None:
        handle = cuda.device.get_cublas_handle()
        mode = cublas.getMathMode(handle)
        cublas.setMathMode(handle, EXACT)
        try:
            a, b, c = ((addresses[operand] + offset, *rest) for operand, offset, *rest in matrices)
            cublas.gemmStridedBatchedEx(handle, *turned, m, n, product.k, one.ctypes.data, *a, *b, zero.ctypes.data, *c,
                                        product.batch, sums, CHOSEN)
        finally:
            cublas.setMathMode(handle, mode)

    return run
