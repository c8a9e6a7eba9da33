"""Scalar rules in StableHLO: what it has no operation for is written in those that it has, as the op's own rule says."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.export.to_stablehlo.block import Ref
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DTYPES, INTEGERS, SIGNED, UNSIGNED, DType, TensorType

_ROUND = {"floor": "floor", "ceil": "ceil", "rint": "round_nearest_even"}


class Scalars(ScalarBuilder):
    """Scalars that are whole tensors of one shape, written in a body `m`.

    Products are rounded before they are added: StableHLO has no fused multiply-add. Functions of float32 do without float64, which some of
    the devices that read StableHLO do not have.
    """

    doubles = False

    def __init__(self, m: Any, shape: tuple[int, ...]):
        self.m, self.shape = m, shape

    def of(self, x: Ref) -> Scalar:
        """A tensor, repeated to the shape, as a scalar."""
        return Scalar(self, x.dtype, self.m.broadcast(x, self.shape))

    def _made(self, name: str, *xs: Scalar) -> Scalar:
        return Scalar(self, xs[0].dtype, self.m.elementwise(name, *(x.raw for x in xs)))

    def constant(self, value: Any, dtype: DType) -> Scalar:
        if dtype in INTEGERS:
            value = np.asarray(int(value) & (1 << 8 * dtype.itemsize) - 1, f"u{dtype.itemsize}").view(dtype)
        return Scalar(self, dtype, self.m.full(value, TensorType(dtype, self.shape)))

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("add", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("subtract", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("multiply", x, y)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("divide", x, y)

    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("remainder", x, y)

    def neg(self, x: Scalar) -> Scalar:
        return self._made("negate", x)

    def abs(self, x: Scalar) -> Scalar:
        return x if x.dtype in UNSIGNED else self._made("abs", x)

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return x * y + z

    def sqrt(self, x: Scalar) -> Scalar:
        return self._made("sqrt", x)

    def round(self, how: str, x: Scalar) -> Scalar:
        if how == "trunc":
            return self.select(x < 0, self.round("ceil", x), self.round("floor", x))
        return self._made(_ROUND[how], x)

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        whole = DTYPES[f"u{8 * x.dtype.itemsize}"]
        sign = 1 << 8 * x.dtype.itemsize - 1
        return self.bitcast((self.bitcast(x, whole) & (sign - 1)) | (self.bitcast(y, whole) & sign), x.dtype)

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, BOOL, self.m.compare(how.upper(), x.raw, y.raw))

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.select(condition.raw, x.raw, y.raw))

    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return self._made(how, x, y)

    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return self._made("shift_left" if how == "left" else f"shift_right_{'arithmetic' if x.dtype in SIGNED else 'logical'}", x, y)

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        return Scalar(self, dtype, self.m.cast(x.raw, dtype))

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        return Scalar(self, dtype, self.m.elementwise("bitcast_convert", x.raw, dtype=dtype))

    def maximum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("maximum", x, y)

    def minimum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._made("minimum", x, y)
