"""Bit operations on integers and bools."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.op import op
from nagraph.ir.operators import FUNCTIONS
from nagraph.ir.types import BOOL, INTEGERS
from nagraph.ops.base import Elementwise


class Bits(Elementwise):
    """On integers bit by bit; on bools the logic."""

    dtypes = INTEGERS | {BOOL}
    differentiable = False

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.integers(0, 100, (3, 4)), rng.integers(0, 5, (4,))


@op
class BitwiseAnd(Bits):
    """x & y."""

    reference = staticmethod(np.bitwise_and)


@op
class BitwiseOr(Bits):
    """x | y."""

    reference = staticmethod(np.bitwise_or)


@op
class BitwiseXor(Bits):
    """x ^ y."""

    reference = staticmethod(np.bitwise_xor)


@op
class LeftShift(Bits):
    """x << y, for shifts below the width."""

    dtypes = INTEGERS
    reference = staticmethod(np.left_shift)


@op
class RightShift(Bits):
    """x >> y, for shifts below the width; signed integers keep their sign."""

    dtypes = INTEGERS
    reference = staticmethod(np.right_shift)


@op
class Invert(Bits):
    """~x."""

    reference = staticmethod(np.invert)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.integers(0, 100, (3, 4)),)
        yield (np.array([True, False]),)


bitwise_and, bitwise_or, bitwise_xor, invert = BitwiseAnd(), BitwiseOr(), BitwiseXor(), Invert()
left_shift, right_shift, bitwise_not = LeftShift(), RightShift(), invert

FUNCTIONS.update(bitwise_and=bitwise_and, bitwise_or=bitwise_or, bitwise_xor=bitwise_xor, invert=invert,
                 left_shift=left_shift, right_shift=right_shift)
