"""Bit operations on integers and bools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph.ir.op import op
from nagraph.ir.operators import functions
from nagraph.ir.types import BOOL, INTEGERS, SIGNED
from nagraph.ops.base import Elementwise

if TYPE_CHECKING:
    from nagraph.ir.scalar import Scalar, ScalarBuilder


class Bits(Elementwise):
    """On integers bit by bit; on bools the logic."""

    dtypes = INTEGERS | {BOOL}

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.integers(0, 100, (3, 4)), rng.integers(0, 5, (4,))


@op
class BitwiseAnd(Bits):
    """x & y."""

    reference = staticmethod(np.bitwise_and)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x & y


@op
class BitwiseOr(Bits):
    """x | y."""

    reference = staticmethod(np.bitwise_or)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x | y


@op
class BitwiseXor(Bits):
    """x ^ y."""

    reference = staticmethod(np.bitwise_xor)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        return x ^ y


@op
class LeftShift(Bits):
    """x << y, for shifts below the width."""

    dtypes = INTEGERS
    reference = staticmethod(np.left_shift)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        width = 8 * x.dtype.itemsize
        inside = _within_width(s, y, width)
        return s.select(inside, x << s.select(inside, y, s.constant(0, y.dtype)), s.constant(0, x.dtype))


@op
class RightShift(Bits):
    """x >> y, for shifts below the width; signed integers keep their sign."""

    dtypes = INTEGERS
    reference = staticmethod(np.right_shift)

    def scalar(self, s: ScalarBuilder, x: Scalar, y: Scalar) -> Scalar:
        width = 8 * x.dtype.itemsize
        inside = _within_width(s, y, width)
        rest = x >> (width - 1) if x.dtype in SIGNED else s.constant(0, x.dtype)
        return s.select(inside, x >> s.select(inside, y, s.constant(0, y.dtype)), rest)


@op
class Invert(Bits):
    """~x."""

    reference = staticmethod(np.invert)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.integers(0, 100, (3, 4)),)
        yield (np.array([True, False]),)

    def scalar(self, s: ScalarBuilder, x: Scalar) -> Scalar:
        return ~x


def _within_width(s: ScalarBuilder, y: Scalar, width: int) -> Scalar:
    """Whether a shift is one that the machine can do; a negative one counts as a long one, as in NumPy."""
    return (y >= 0) & (y < width) if y.dtype in SIGNED else y < width


bitwise_and, bitwise_or, bitwise_xor, invert = BitwiseAnd(), BitwiseOr(), BitwiseXor(), Invert()
left_shift, right_shift, bitwise_not = LeftShift(), RightShift(), invert

functions.register(bitwise_and=bitwise_and, bitwise_or=bitwise_or, bitwise_xor=bitwise_xor, invert=invert,
                   left_shift=left_shift, right_shift=right_shift)
