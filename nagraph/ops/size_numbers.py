"""Sizes as numbers: what stands in a graph for a size that is computed with before it is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.axes import AxisRelation
from nagraph.ir.constant import Constant
from nagraph.ir.conversion import number
from nagraph.ir.op import Array, Cost, Op, op
from nagraph.ir.operators import functions
from nagraph.ir.types import DType, TensorType
from nagraph.ops.base import Primitive


@op
class SizeNumber(Primitive):
    """A size as a number of rank 0, such as the n of a mean's 1/n. A constant stands in its place once the size is known."""

    name = "size"
    size: int
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType(self.dtype, ())

    def reference(self) -> Array:
        return number(self.size, self.dtype)

    def when_known(self) -> Op:
        return Constant.number(self.size, self.dtype) if type(self.size) is int else self

    def axis_relations(self) -> tuple[AxisRelation, ...]:
        return ()

    def element(self, k: Any, operands: Any, index: Any) -> int:
        return int(k.number(self.size, self.dtype))

    def vjp(self, cotangents: Any, results: Any, operands: Any) -> tuple[()]:
        return ()

    def jvp(self, tangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def batch(self, size: int, operands: Any, batched: Any) -> Any:
        raise AssertionError("a size has no operand that could be batched")

    def cost(self) -> Cost:
        return Cost()

    def samples(self, rng: np.random.Generator) -> Any:
        yield ()


def size_number(size: int, dtype: DType) -> Any:
    """A size as a traced number of a dtype."""
    return SizeNumber(size, dtype)()


functions.register(size_number=size_number)
