"""Materialisation: the same values in memory of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.graph import Value
from nagraph.ir.op import Array, op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Linear, Maybe


@op
class Materialize(Linear):
    """x as it is, but stored row-major: y = x.

    Movement is folded into whatever reads it. Where that is read many times, one copy in the right order costs less.
    """

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x.copy()

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        return int(k.element(operands[0], index))

    def transpose(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (ct,)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)),)
