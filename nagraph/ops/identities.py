"""Identities: ops whose result is their operand, which they say to store, to compute again, to hold constant, or to print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.ir.axes import AxisRelation, every_axis
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Box, Op, op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Linear
from nagraph.ops.rules import Maybe


class Identity(Linear):
    """y = x, for ops that say how a value is to be had."""

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        return x

    def axis_relations(self, x: TensorType) -> tuple[AxisRelation, ...]:
        return (every_axis(x.rank),)

    def in_order(self, order: tuple[int, ...]) -> Op:
        return self

    def operand_shown(self, y: Array, x: TensorType) -> Array:
        return y

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        return int(k.element(operands[0], index))

    def narrow(self, box: Box, x: TensorType) -> tuple[Op, Sequence[Box]]:
        return self, [box]

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (ct,)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)),)


@op
class Materialize(Identity):
    """x as it is, but stored row-major: y = x.

    Movement is folded into whatever reads it. Where that is read many times, one copy in the right order costs less.
    """

    stores = True

    def reference(self, x: Array) -> Array:
        return x.copy()


@op
class Recompute(Identity):
    """x as a value of its own: y = x.

    What is computed from it is computed again, though it was computed from x before: common subexpressions are of one value,
    and fusion ends here. Backward passes that would rather compute than store are written with it.
    """

    view = True
    ends_fusion = True


@op
class StopGradient(Identity):
    """The identity whose derivative is zero: y = x, dy/dx = 0."""

    view = True

    def scalar(self, s: Any, x: Any) -> Any:
        return x

    def vjp(self, cotangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)

    def jvp(self, tangents: Any, results: Any, operands: Any) -> tuple[None]:
        return (None,)


@op
class DebugPrint(Linear):
    """Prints its operand when it runs, in program order, and passes it on: y = x. The one op with an effect."""

    effect = True
    text: str

    def infer(self, x: TensorType) -> TensorType:
        return x

    def reference(self, x: Array) -> Array:
        print(self.text.replace("{}", str(x)))
        return x

    def adjoint(self, ct: Value, operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (ct,)

    def jvp(self, tangents: tuple[Maybe, ...], results: tuple[Value, ...], operands: tuple[Value, ...]) -> tuple[Maybe, ...]:
        return (tangents[0],)

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        return (self(*operands),)

    def samples(self, rng: np.random.Generator) -> Any:
        return iter(())


stop_gradient = StopGradient()
