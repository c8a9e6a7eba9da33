"""Products of matrices and convolutions. 16-bit floats are given as they are, and summed in float32."""

from __future__ import annotations

from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import F32, NARROW
from nagraph.export.to_stablehlo.text import array_text, list_text
from nagraph.ir.sizes import dims
from nagraph.ir.types import BOOL, TensorType
from nagraph.ops import contraction, convolution

#: Of several ways to multiply float32, that which loses no bits of its operands.
PRECISION = "[#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>]"


def _sums(m: Body, xs: tuple[Ref, ...]) -> tuple[list[Ref], Any]:
    """The operands as they are multiplied, and the dtype in which products are summed. Bools count what is to be more than none."""
    dtype = xs[0].dtype
    if dtype == BOOL:
        return [m.convert(x, F32) for x in xs], F32
    return list(xs), F32 if dtype in NARROW else dtype


@translates(contraction.DotGeneral, narrow=True)
def dot(m: Body, node: Any, *xs: Ref) -> Ref:
    op = node.op
    (x, y), wide = _sums(m, xs)
    numbers = (f"#stablehlo.dot<lhs_batching_dimensions = {list_text(op.batch_axes[0])}, rhs_batching_dimensions = "
               f"{list_text(op.batch_axes[1])}, lhs_contracting_dimensions = {list_text(op.contract[0])}, rhs_contracting_dimensions = "
               f"{list_text(op.contract[1])}>")
    return m.do("dot_general", (x, y), TensorType(wide, node.result.shape), dot_dimension_numbers=numbers, precision_config=PRECISION)


@translates(convolution.ConvGeneral, narrow=True)
def conv(m: Body, node: Any, *xs: Ref) -> Ref:
    op = node.op
    (x, w), wide = _sums(m, xs)
    t = TensorType(wide, node.result.shape)
    if 0 in (*t.shape, *x.shape):
        return m.full(0, t)
    d = len(op.stride)
    places = ", ".join(map(str, range(d)))
    options = {
        "dimension_numbers": f"#stablehlo.conv<[b, f, {places}]x[o, i, {places}]->[b, f, {places}]>",
        "window_strides": array_text(op.stride), "lhs_dilation": array_text(op.lhs_dilation), "rhs_dilation": array_text(op.dilation),
        "feature_group_count": f"{op.groups} : i64", "batch_group_count": "1 : i64", "precision_config": PRECISION,
    }
    if dims(op.padding):
        padding = m.reshape(m.sizes([n for pair in op.padding for n in pair]), (d, 2))
        return m.do("dynamic_conv", (x, w, padding), t, **options)
    rows = ", ".join(f"[{low}, {high}]" for low, high in op.padding)
    return m.do("convolution", (x, w), t, padding=f"dense<[{rows}]> : tensor<{d}x2xi64>", **options)
