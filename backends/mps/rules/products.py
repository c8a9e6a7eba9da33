"""Products of matrices and convolutions: MLX's, which accumulate 16-bit floats in float32; those of integers are made of sums."""

from __future__ import annotations

import math
from typing import Any

from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.ops import contraction, convolution
from nagraph.ops.movement import transpose
from nagraph.ops.window_products import channels_last, padded_by

Array = Any
F32 = DTYPES["f32"]
#: Products of integers that stand in memory at a time.
MOST_PRODUCTS = 1 << 22


def _dot(m: Any, op: contraction.DotGeneral, x: Array, y: Array) -> Array:
    types = [TensorType(m.dtype(v), tuple(v.shape)) for v in (x, y)]
    x_order, x_shape, y_order, y_shape, _ = op.as_matrices(*types)
    x, y = (m.shaped(m.ordered(v, order), shape) for v, order, shape in ((x, x_order, x_shape), (y, y_order, y_shape)))
    return m.shaped(_product(m, x, y), op.infer(*types).shape)


def _product(m: Any, x: Array, y: Array) -> Array:
    """The product of matrices [..., rows, n] and [..., n, columns]."""
    dtype = m.dtype(x)
    if is_float(dtype):
        return m.matmul(x, y)
    if dtype == BOOL:  # sums of zeros and ones are 0 where all are
        return m.greater(m.matmul(m.to(x, F32), m.to(y, F32)), m.number(0, F32))
    return _whole_product(m, x, y)


def _whole_product(m: Any, x: Array, y: Array) -> Array:
    """Of integers, which wrap: products of a block of n at a time, and their sums."""
    *lead, rows, n = x.shape
    columns = y.shape[-1]
    x, y = m.reshape(x, [*lead, rows, n, 1]), m.reshape(y, [*lead, 1, n, columns])
    size = max(1, MOST_PRODUCTS // max(1, math.prod(lead) * rows * columns))
    whole = (slice(None),) * (len(lead) + 1)
    total = None
    for start in range(0, max(n, 1), size):
        block = (*whole, slice(start, min(start + size, n)))
        part = m.to(m.sum(m.multiply(m.part(x, block), m.part(y, block)), axis=len(lead) + 1), m.dtype(x))
        total = part if total is None else m.add(total, part)
    return total


def _conv(m: Any, op: convolution.ConvGeneral, x: Array, w: Array) -> Array:
    """MLX's convolution has the channels last."""
    d = len(op.stride)
    first, last = (0, d + 1, *range(1, d + 1)), (0, *range(2, d + 2), 1)
    shape = op.infer(*(TensorType(m.dtype(v), tuple(v.shape)) for v in (x, w))).shape
    if not math.prod(shape) or not x.size:
        return m.broadcast_to(m.number(0, m.dtype(x)), shape)
    if not is_float(m.dtype(x)) or d > 3 or (d == 3 and op.groups > 1):
        kernel = (*range(2, d + 2), 1, 0)
        return m.composed(lambda a, b: transpose(channels_last(op, transpose(a, last), transpose(b, kernel)), first), x, w)
    x, padding, spread = m.ordered(x, last), op.padding, op.lhs_dilation
    if min(map(min, padding)) < 0:  # MLX cuts before it spreads
        around, between = ((0, 0), *padding, (0, 0)), (0, *(n - 1 for n in spread), 0)
        x = m.composed(lambda v: padded_by(v, around, between), x)
        padding, spread = ((0, 0),) * d, (1,) * d
    low, high = zip(*padding)
    y = m.conv_general(x, m.ordered(w, last), stride=list(op.stride), padding=(list(low), list(high)),
                       kernel_dilation=list(op.dilation), input_dilation=list(spread), groups=op.groups)
    return m.ordered(y, first)


RULES: dict[type[Op], Rule] = {
    contraction.DotGeneral: Rule(_dot, narrow=True), convolution.ConvGeneral: Rule(_conv, narrow=True),
}
