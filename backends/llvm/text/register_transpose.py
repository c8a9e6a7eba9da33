"""Register transpose: a square matrix whose rows are vectors becomes one whose rows were its columns."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg


def transposed(code: FunctionBuilder, rows: Sequence[Reg]) -> list[Reg]:
    """The columns of a square whose rows are vectors; their number is a power of two.

    Blocks off the diagonal are exchanged, of half the size, of a quarter, ..., of one element. Source: Eklundh 1972.
    """
    square, lanes = list(rows), len(rows)
    half = lanes // 2
    while half:
        low = [lanes + j - half if j & half else j for j in range(lanes)]
        high = [lanes + j if j & half else j + half for j in range(lanes)]
        for i in range(lanes):
            if not i & half:
                x, y = square[i], square[i + half]
                square[i], square[i + half] = _shuffle(code, x, y, low), _shuffle(code, x, y, high)
        half //= 2
    return square


def _shuffle(code: FunctionBuilder, x: Reg, y: Reg, order: list[int]) -> Reg:
    numbers = ", ".join(f"i32 {j}" for j in order)
    return code.emit(x.type, f"shufflevector {x}, {y}, <{len(order)} x i32> <{numbers}>")
