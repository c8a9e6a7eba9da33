"""Elementwise arithmetic, comparison, logic and bits. Transcendental functions are in `special`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.graph import Value
from nagraph.ir.op import op
from nagraph.ir.operators import FUNCTIONS
from nagraph.ops.base import ANY, Elementwise


@op
class Add(Elementwise):
    """Sum: z = x + y. Shapes broadcast; dtypes promote as in NumPy; on bools it is `or`."""

    dtypes = ANY
    reference = staticmethod(np.add)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[float, float]:
        return 1, 1

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))
        yield np.arange(6).reshape(2, 3), np.array(7)


@op
class Multiply(Elementwise):
    """Product: z = x y. Shapes broadcast; dtypes promote as in NumPy; on bools it is `and`."""

    dtypes = ANY
    reference = staticmethod(np.multiply)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, Value]:
        return y, x

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(3, 1))
        yield np.arange(6).reshape(2, 3), np.array(7)


@op
class Negative(Elementwise):
    """Negation: y = -x. Shape and dtype kept; no bools, as in NumPy."""

    reference = staticmethod(np.negative)

    def partials(self, y: Value, x: Value) -> tuple[float]:
        return (-1,)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)),)


add, multiply, negative = Add(), Multiply(), Negative()

FUNCTIONS.update(add=add, multiply=multiply, negative=negative)
