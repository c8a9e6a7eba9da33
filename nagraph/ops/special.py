"""Transcendental functions. Integers are computed in floating point, as NumPy does: int8 in f16, int16 in f32, wider in f64."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nagraph import elementary
from nagraph.ir.graph import Value
from nagraph.ir.op import Array, Cost, op
from nagraph.ir.operators import functions
from nagraph.ir.types import FLOATS, TensorType
from nagraph.ops.base import NARROW_FLOATS, Elementwise
from nagraph.ops.comparison import equal
from nagraph.ops.elementwise import abs as abs_of
from nagraph.ops.elementwise import maximum, square, where
from nagraph.ops.identities import stop_gradient
from nagraph.ops.numerics import erf as numerics

if TYPE_CHECKING:
    from nagraph.ir.scalar import Scalar, ScalarBuilder

#: Elements that an approximation of many steps takes at a time.
BLOCK = 1 << 13


class Transcendental(Elementwise):
    """One floating operand; shape and dtype kept. `domain` is where the tests draw from."""

    dtypes = FLOATS
    promotes = "float"
    per_element = Cost(flops=1, transcendental=1)
    weight = 10
    domain: tuple[float, float] = (-0.9, 0.9)

    def scalar(self, s: ScalarBuilder, *operands: Scalar) -> Scalar:
        """The elementary function of the op's name; operands are float32 or float64."""
        rule: Callable[..., Scalar] = getattr(elementary, self.name)
        return rule(s, *operands)

    def samples(self, rng: np.random.Generator) -> Any:
        yield (rng.uniform(*self.domain, size=(3, 4)),)
        yield (np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 20.0, 1e-40]),)


@op
class Exp(Transcendental):
    """y = eˣ."""

    reference = staticmethod(np.exp)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (y,)


@op
class Expm1(Transcendental):
    """y = eˣ - 1, exact near 0."""

    reference = staticmethod(np.expm1)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (y + 1,)


@op
class Exp2(Transcendental):
    """y = 2ˣ."""

    reference = staticmethod(np.exp2)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (y * math.log(2),)


@op
class Log(Transcendental):
    """y = ln x."""

    domain = (0.2, 3.0)
    reference = staticmethod(np.log)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / x,)


@op
class Log1p(Transcendental):
    """y = ln(1 + x), exact near 0."""

    reference = staticmethod(np.log1p)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (x + 1),)


@op
class Log2(Transcendental):
    """y = log₂ x."""

    domain = (0.2, 3.0)
    reference = staticmethod(np.log2)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (x * math.log(2)),)


@op
class Log10(Transcendental):
    """y = log₁₀ x."""

    domain = (0.2, 3.0)
    reference = staticmethod(np.log10)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (x * math.log(10)),)


@op
class Sqrt(Transcendental):
    """y = √x."""

    domain = (0.2, 3.0)
    reference = staticmethod(np.sqrt)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (0.5 / y,)


@op
class Rsqrt(Transcendental):
    """y = 1/√x."""

    domain = (0.2, 3.0)

    def reference(self, x: Array) -> Array:
        result: Array = 1 / np.sqrt(x)
        return result

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if results[0].dtype in NARROW_FLOATS:
            return super().into(operands, results)
        return lambda x, y: np.divide(1, np.sqrt(x, y), y)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (-0.5 * y * square(y),)


@op
class Cbrt(Transcendental):
    """y = ∛x."""

    domain = (0.2, 3.0)
    reference = staticmethod(np.cbrt)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (3 * square(y)),)


@op
class Sin(Transcendental):
    """y = sin x."""

    rare_weight = 40
    reference = staticmethod(np.sin)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (cos(x),)


@op
class Cos(Transcendental):
    """y = cos x."""

    rare_weight = 40
    reference = staticmethod(np.cos)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (-sin(x),)


@op
class Tan(Transcendental):
    """y = tan x."""

    rare_weight = 40
    reference = staticmethod(np.tan)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 + square(y),)


@op
class Arcsin(Transcendental):
    """y = arcsin x."""

    reference = staticmethod(np.arcsin)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (rsqrt(1 - square(x)),)


@op
class Arccos(Transcendental):
    """y = arccos x."""

    reference = staticmethod(np.arccos)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (-rsqrt(1 - square(x)),)


@op
class Arctan(Transcendental):
    """y = arctan x."""

    reference = staticmethod(np.arctan)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (1 + square(x)),)


@op
class Arctan2(Transcendental):
    """z = the angle of the point (x, y): arctan(y / x) in the right quadrant. Operands: y, x. Derivative 0 at the origin."""

    reference = staticmethod(np.arctan2)

    def partials(self, z: Value, y: Value, x: Value) -> tuple[Any, Any]:
        """x / (x² + y²) and -y / (x² + y²), with both divided by the larger first: the squares neither overflow nor vanish."""
        larger = stop_gradient(maximum(abs_of(x), abs_of(y)))  # cancels, and so does its derivative
        origin, one = equal(larger, np.zeros((), x.dtype)), np.ones((), x.dtype)
        size = where(origin, one, larger)
        x, y = x / size, y / size
        norm = where(origin, one, square(x) + square(y)) * size
        return x / norm, -y / norm

    def samples(self, rng: np.random.Generator) -> Any:
        yield rng.normal(size=(3, 4)), rng.uniform(0.5, 2.0, size=(4,))


@op
class Sinh(Transcendental):
    """y = sinh x."""

    reference = staticmethod(np.sinh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (cosh(x),)


@op
class Cosh(Transcendental):
    """y = cosh x."""

    reference = staticmethod(np.cosh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (sinh(x),)


@op
class Tanh(Transcendental):
    """y = tanh x."""

    reference = staticmethod(np.tanh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 - square(y),)


@op
class Arcsinh(Transcendental):
    """y = arsinh x."""

    reference = staticmethod(np.arcsinh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (rsqrt(square(x) + 1),)


@op
class Arccosh(Transcendental):
    """y = arcosh x."""

    domain = (1.2, 3.0)
    reference = staticmethod(np.arccosh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (rsqrt(square(x) - 1),)


@op
class Arctanh(Transcendental):
    """y = artanh x."""

    reference = staticmethod(np.arctanh)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (1 / (1 - square(x)),)


class _InBlocks(Transcendental):
    """Computed a block of elements at a time, so that what the approximation holds between stays in cache and small."""

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        if results[0].dtype in NARROW_FLOATS:
            return super().into(operands, results)

        def write(x: Array, y: Array) -> None:
            source, target = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
            for start in range(0, source.size, BLOCK):
                target[start:start + BLOCK] = self.reference(source[start:start + BLOCK])

        return write


@op
class Erf(_InBlocks):
    """y = 2/√π ∫₀ˣ exp(-t²) dt. Source of the approximation: Cody 1969."""

    def reference(self, x: Array) -> Array:
        return numerics.erf(x)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (exp(-square(x)) * (2 / math.sqrt(math.pi)),)


@op
class Erfc(_InBlocks):
    """y = 1 - erf x, exact in the tail. Source of the approximation: Cody 1969."""

    def reference(self, x: Array) -> Array:
        return numerics.erfc(x)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (exp(-square(x)) * (-2 / math.sqrt(math.pi)),)


class InSteps(Transcendental):
    """A function that NumPy computes in several steps, with one array beside the result: y may be x itself."""

    @staticmethod
    @abstractmethod
    def _compute(x: Array, y: Array, aside: Array) -> None:
        """y = f(x)."""

    def reference(self, x: Array) -> Array:
        y, aside = np.empty_like(x), np.empty_like(x)
        self._compute(x, y, aside)
        return y

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        return super().into(operands, results) if results[0].dtype in NARROW_FLOATS else self._compute

    def scratch(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return () if operands[0].dtype in NARROW_FLOATS else operands


@op
class Sigmoid(InSteps):
    """y = 1 / (1 + e⁻ˣ)."""

    @staticmethod
    def _compute(x: Array, y: Array, total: Array) -> None:
        """e / (1 + e) for negative x and 1 / (1 + e) else, with e = exp(-|x|) at most 1: no overflow on either side."""
        # total first holds 0 or -|x|, whose exponential is the numerator; y may be x itself.
        np.abs(x, total)
        np.negative(total, total)
        np.minimum(x, 0, out=y)  # exp of it: e where x is negative, 1 elsewhere
        np.exp(y, y)
        np.exp(total, total)
        np.add(total, 1, total)
        np.divide(y, total, y)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (y * (1 - y),)


@op
class Softplus(InSteps):
    """y = ln(1 + eˣ), without overflow: max(x, 0) + ln(1 + e^-|x|). Its slope is the sigmoid, smooth at 0 as well."""

    per_element = Cost(flops=1, transcendental=2)
    weight = 20

    @staticmethod
    def _compute(x: Array, y: Array, small: Array) -> None:
        # small first holds -|x|; y may be x itself.
        np.abs(x, small)
        np.negative(small, small)
        np.exp(small, small)
        np.log1p(small, small)
        np.maximum(x, 0, out=y)
        np.add(y, small, y)

    def partials(self, y: Value, x: Value) -> tuple[Any]:
        return (sigmoid(x),)


exp, expm1, exp2, log, log1p, log2, log10 = Exp(), Expm1(), Exp2(), Log(), Log1p(), Log2(), Log10()
sqrt, rsqrt, cbrt = Sqrt(), Rsqrt(), Cbrt()
sin, cos, tan, arcsin, arccos, arctan, arctan2 = Sin(), Cos(), Tan(), Arcsin(), Arccos(), Arctan(), Arctan2()
sinh, cosh, tanh, arcsinh, arccosh, arctanh = Sinh(), Cosh(), Tanh(), Arcsinh(), Arccosh(), Arctanh()
erf, erfc, sigmoid, softplus = Erf(), Erfc(), Sigmoid(), Softplus()


def root(x: Any) -> Any:
    """√x with derivatives of 0 at 0: for norms and deviations, whose slope at their kink is then 0 and not ∞ · 0 = nan."""
    none = equal(x, np.zeros((), x.dtype))
    return where(none, np.zeros((), x.dtype), sqrt(where(none, np.ones((), x.dtype), x)))


functions.register(log=log, sqrt=sqrt)
