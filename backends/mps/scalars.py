"""Scalar rules on MLX: what MLX has no function for is made of those that it has, element by element, as the op's own rule says."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.backends.mps.calls import Calls
from nagraph.backends.mps.conversion import cast
from nagraph.ir.scalar import Scalar, ScalarBuilder
from nagraph.ir.types import BOOL, DTYPES, INTEGERS, SIGNED, DType

_COMPARE = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
_ROUND = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "round"}


class MlxScalars(ScalarBuilder):
    """Scalars that are whole arrays of MLX, which broadcast. Products are rounded before they are added: MLX has no fma."""

    doubles = False

    def __init__(self, m: Calls):
        self.m = m

    def of(self, x: Any) -> Scalar:
        """An array as a scalar."""
        return Scalar(self, self.m.dtype(x), x)

    def constant(self, value: Any, dtype: DType) -> Scalar:
        if dtype in INTEGERS:
            value = int(value) & (1 << 8 * dtype.itemsize) - 1
            value = np.asarray(value, f"u{dtype.itemsize}").view(dtype)
        return Scalar(self, dtype, self.m.number(value, dtype))

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.add(x.raw, y.raw))

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.subtract(x.raw, y.raw))

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.multiply(x.raw, y.raw))

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype not in INTEGERS:
            return Scalar(self, x.dtype, self.m.divide(x.raw, y.raw))
        down = Scalar(self, x.dtype, self.m.floor_divide(x.raw, y.raw))
        if x.dtype not in SIGNED:
            return down
        inexact = self.compare("ne", down * y, x)
        return self.select(inexact & self.compare("lt", x ^ y, self.constant(0, x.dtype)), down + 1, down)

    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        return x - self.div(x, y) * y

    def neg(self, x: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.negative(x.raw))

    def abs(self, x: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.abs(x.raw))

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return x * y + z

    def sqrt(self, x: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.sqrt(x.raw))

    def round(self, how: str, x: Scalar) -> Scalar:
        return Scalar(self, x.dtype, getattr(self.m, _ROUND[how])(x.raw))

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        whole = DTYPES[f"u{8 * x.dtype.itemsize}"]
        sign = 1 << 8 * x.dtype.itemsize - 1
        return self.bitcast((self.bitcast(x, whole) & (sign - 1)) | (self.bitcast(y, whole) & sign), x.dtype)

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, BOOL, getattr(self.m, _COMPARE[how])(x.raw, y.raw))

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, self.m.where(condition.raw, x.raw, y.raw))

    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype == BOOL:
            name = "not_equal" if how == "xor" else f"logical_{how}"
            return Scalar(self, BOOL, getattr(self.m, name)(x.raw, y.raw))
        return Scalar(self, x.dtype, getattr(self.m, f"bitwise_{how}")(x.raw, y.raw))

    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self, x.dtype, getattr(self.m, f"{how}_shift")(x.raw, y.raw))

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        return Scalar(self, dtype, cast(self.m, x.raw, dtype))

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        return Scalar(self, dtype, self.m.bits(x.raw, dtype))
