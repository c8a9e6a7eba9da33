"""Rounding and sign: piecewise constant, so the derivative is zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.ir.graph import Value
from nagraph.ir.op import op
from nagraph.ir.types import FLOATS, INTEGERS
from nagraph.ops.base import ANY, NUMERIC, Elementwise


class Step(Elementwise):
    """Piecewise constant: dy/dx = 0."""

    dtypes = ANY

    def partials(self, y: Value, *xs: Value) -> tuple[None, ...]:
        return (None,) * len(xs)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.normal(size=(3, 4)) * 3,)
        yield (np.array([0.5, 1.5, -0.5, -0.0, np.inf, np.nan]),)
        yield (np.arange(-3, 3),)


@op
class Floor(Step):
    """y = ⌊x⌋. Integers stay."""

    reference = staticmethod(np.floor)


@op
class Ceil(Step):
    """y = ⌈x⌉. Integers stay."""

    reference = staticmethod(np.ceil)


@op
class Trunc(Step):
    """x without its fraction: rounding towards zero. Integers stay."""

    reference = staticmethod(np.trunc)


@op
class Rint(Step):
    """The nearest integer, halves to even."""

    dtypes = FLOATS
    promotes = "float"
    reference = staticmethod(np.rint)


@op
class Sign(Step):
    """-1, 0 or 1; nan of nan."""

    dtypes = NUMERIC
    reference = staticmethod(np.sign)


@op
class NextAfter(Elementwise):
    """The next representable number after x in the direction of y. No derivative."""

    name = "nextafter"
    dtypes = FLOATS
    promotes = "float"
    widens = False
    differentiable = False

    reference = staticmethod(np.nextafter)

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), np.array(np.inf)


@op
class CopySign(Elementwise):
    """The magnitude of x with the sign of y."""

    name = "copysign"
    dtypes = FLOATS
    promotes = "float"
    reference = staticmethod(np.copysign)

    def partials(self, z: Value, x: Value, y: Value) -> tuple[Value, None]:
        from nagraph.ops.elementwise import where

        one = np.ones((), z.dtype)
        same = self(one, x) * self(one, y)
        return where(same > 0, one, -one), None

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.normal(size=(4,))


floor, ceil, trunc, rint, sign = Floor(), Ceil(), Trunc(), Rint(), Sign()
nextafter, copysign = NextAfter(), CopySign()
fix = trunc


def round(x: Any, decimals: int = 0) -> Any:  # noqa: A001 - NumPy's name
    """x rounded to so many decimals, halves to even. Integers stay."""
    if x.dtype in INTEGERS:
        return x
    if decimals == 0:
        return rint(x)
    factor = np.asarray(10.0**decimals).astype(x.dtype)
    return rint(x * factor) / factor
