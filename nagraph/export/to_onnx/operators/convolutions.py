"""Convolutions, and products over windows where ONNX has no convolution of the dtype."""

from __future__ import annotations

import math
from typing import Any

from nagraph.export.to_onnx.dtypes import computed_in
from nagraph.export.to_onnx.operators.movement import cropped, flipped, padded, reshaped, transposed, windowed
from nagraph.export.to_onnx.operators.products import matmul
from nagraph.export.to_onnx.registry import translation
from nagraph.ir.node import Node
from nagraph.ir.sizes import dims
from nagraph.ops.convolution import ConvGeneral, spread


@translation(ConvGeneral)
def conv(w: Any, node: Node, x: Any, kernel: Any) -> Any:
    """Conv; ConvTranspose where zeros stand between the elements of x, which it does not multiply with."""
    op: Any = node.op
    dtype = computed_in("Conv", x.dtype)
    if dtype is None or not op.stride:
        return _over_windows(w, op, x, kernel, node.result.type)
    a, b = (v if v.dtype == dtype else w.operand(w.cast(v, dtype), v.type.with_dtype(dtype)) for v in (x, kernel))
    if dims([op.padding]):
        op, a = _padded_first(w, op, a)
    found = _transposed(w, op, a, b) or _plain(w, op, a, b)
    return found if dtype == x.dtype else w.cast(found, x.dtype)


def _padded_first(w: Any, op: Any, x: Any) -> tuple[Any, Any]:
    """The op without padding, and x with it: padding that is known later can't be an attribute. Pad cuts off where it is negative."""
    d = len(op.padding)
    low, high = ((0, 0, *side) for side in zip(*op.padding))
    found = padded(w, x, low, high, (0, 0, *(n - 1 for n in op.lhs_dilation)), 0.0)
    return op.with_attributes(padding=((0, 0),) * d, lhs_dilation=(1,) * d), found


def _plain(w: Any, op: Any, x: Any, kernel: Any) -> str:
    x = _prepared(w, op, x, outside=False)
    pads = [max(p, 0) for side in zip(*op.padding) for p in side]
    size = None if kernel.type.symbolic else kernel.shape[2:]
    return str(w.emit("Conv", x, kernel, kernel_shape=size, strides=op.stride, pads=pads, dilations=op.dilation,
                      group=op.groups))


def _prepared(w: Any, op: Any, x: Any, outside: bool) -> Any:
    """x with zeros between its elements, and without what negative padding cuts off; with the padding if `outside`."""
    none = (0, 0)
    between = (*none, *(d - 1 for d in op.lhs_dilation))
    low, high = ((*none, *(max(p[i], 0) if outside else 0 for p in op.padding)) for i in (0, 1))
    x = padded(w, x, low, high, between, 0.0)
    return cropped(w, x, (*none, *(max(-p[0], 0) for p in op.padding)), (*none, *(max(-p[1], 0) for p in op.padding)))


def _transposed(w: Any, op: Any, x: Any, kernel: Any) -> str | None:
    """The convolution as the transpose of a strided one; None where that has no such padding."""
    if max(op.lhs_dilation) == 1 or max(op.stride) > 1:
        return None
    reach = [spread(k, d) - 1 for k, d in zip(kernel.shape[2:], op.dilation)]
    pads = [[r - p[i] for r, p in zip(reach, op.padding)] for i in (0, 1)]
    more = [max(-p, 0) for p in pads[1]]
    if min(pads[0]) < 0 or any(m >= max(s, d) for m, s, d in zip(more, op.lhs_dilation, op.dilation)):
        return None
    g, (o, c), rest = op.groups, kernel.shape[:2], tuple(range(2, kernel.rank))
    turned = flipped(w, kernel, rest)
    if g == 1:
        turned = transposed(w, turned, (1, 0, *rest))
    else:
        turned = reshaped(w, turned, kernel.shape, (g, o // g, *kernel.shape[1:]))
        turned = transposed(w, turned, (0, 2, 1, *(a + 1 for a in rest)))
        turned = reshaped(w, turned, (g, c, o // g, *kernel.shape[2:]), (g * c, o // g, *kernel.shape[2:]))
    return str(w.emit("ConvTranspose", x, turned, kernel_shape=kernel.shape[2:], strides=op.lhs_dilation, dilations=op.dilation, group=g,
                      pads=[*pads[0], *(max(p, 0) for p in pads[1])], output_padding=more if any(more) else None))


def _over_windows(w: Any, op: Any, x: Any, kernel: Any, result: Any) -> str:
    """One product of matrices for each group: the windows of x by the kernel."""
    d, g, (o, c), taps = len(op.stride), op.groups, kernel.shape[:2], kernel.shape[2:]
    x = _prepared(w, op, x, outside=True)
    axes = tuple(range(2, 2 + d))
    seen = windowed(w, x, axes, taps, op.stride, op.dilation)  # [n, g c, *out, *taps]
    n, out = result.shape[0], result.shape[2:]
    # [n, g, *out, c, *taps] times [g, c taps, o / g]
    seen = reshaped(w, seen, seen.shape, (n, g, c, *out, *taps))
    order = (0, 1, *range(3, 3 + d), 2, *range(3 + d, 3 + 2 * d))
    size = c * math.prod(taps)
    rows = reshaped(w, transposed(w, seen, order), (n, g, *out, c, *taps), (n, g, math.prod(out), size))
    columns = reshaped(w, kernel, kernel.shape, (g, o // g, size))
    columns = transposed(w, columns, (0, 2, 1))
    rows, columns = (w.operand(v, x.type.with_shape(s)) for v, s in ((rows, (n, g, math.prod(out), size)), (columns, (g, size, o // g))))
    found = transposed(w, matmul(w, rows, columns), (0, 1, 3, 2))
    return reshaped(w, found, (n, g, o // g, math.prod(out)), result.shape)


