"""Sorting: stable, nan last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nagraph.export.to_stablehlo.block import Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.export.to_stablehlo.registry import translates
from nagraph.export.to_stablehlo.shapes import I64
from nagraph.ir.types import TensorType, is_float
from nagraph.ops import sorting


def _sorted(m: Body, xs: Sequence[Ref], axis: int) -> list[Ref]:
    """Tensors of one shape in the order of the first one."""
    def before(a: Ref, b: Ref, *_: Ref) -> list[Ref]:
        s = m.scalars(())
        x, y = s.of(a), s.of(b)
        return [((x < y) | (s.is_nan(y) & s.eq(x, x)) if is_float(a.dtype) else x < y).raw]

    pairs = [TensorType(x.dtype, ()) for x in xs for _ in range(2)]
    return m.op("stablehlo.sort", xs, [x.type for x in xs], [m.region(pairs, before)], dimension=f"{axis} : i64", is_stable="true")


@translates(sorting.Sort)
def sort(m: Body, node: Any, x: Ref) -> list[Ref]:
    return _sorted(m, [x], node.op.axis)


@translates(sorting.Argsort)
def argsort(m: Body, node: Any, x: Ref) -> Ref:
    return _sorted(m, [x, m.iota(I64, x.shape, node.op.axis)], node.op.axis)[1]
