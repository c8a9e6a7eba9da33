"""Scalar computation, as the scalar rules of ops and the elementary functions write it: once for all machines.

A rule is written for one element. A backend's builder makes of it what its machine computes: a vector
of lanes on a CPU, a thread's registers on a GPU. Nothing here rounds differently from one backend to another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from nagraph.ir.types import BOOL, DTYPES, FLOATS, DType

F32, F64, I32, I64, U32, U64 = (DTYPES[n] for n in ("f32", "f64", "i32", "i64", "u32", "u64"))


class Scalar:
    """One value of a dtype. Operators compute in its builder; Python numbers take the dtype of their partner."""

    __slots__ = ("s", "dtype", "raw")

    def __init__(self, s: ScalarBuilder, dtype: DType, raw: Any):
        self.s, self.dtype, self.raw = s, dtype, raw

    def _with(self, other: Scalar | float | int) -> Scalar:
        return other if isinstance(other, Scalar) else self.s.constant(other, self.dtype)

    def __add__(self, other: Scalar | float) -> Scalar:
        return self.s.add(self, self._with(other))

    def __radd__(self, other: float) -> Scalar:
        return self.s.add(self._with(other), self)

    def __sub__(self, other: Scalar | float) -> Scalar:
        return self.s.sub(self, self._with(other))

    def __rsub__(self, other: float) -> Scalar:
        return self.s.sub(self._with(other), self)

    def __mul__(self, other: Scalar | float) -> Scalar:
        return self.s.mul(self, self._with(other))

    def __rmul__(self, other: float) -> Scalar:
        return self.s.mul(self._with(other), self)

    def __truediv__(self, other: Scalar | float) -> Scalar:
        return self.s.div(self, self._with(other))

    def __rtruediv__(self, other: float) -> Scalar:
        return self.s.div(self._with(other), self)

    def __neg__(self) -> Scalar:
        return self.s.neg(self)

    def __lt__(self, other: Scalar | float) -> Scalar:
        return self.s.compare("lt", self, self._with(other))

    def __le__(self, other: Scalar | float) -> Scalar:
        return self.s.compare("le", self, self._with(other))

    def __gt__(self, other: Scalar | float) -> Scalar:
        return self.s.compare("gt", self, self._with(other))

    def __ge__(self, other: Scalar | float) -> Scalar:
        return self.s.compare("ge", self, self._with(other))

    def __and__(self, other: Scalar | int) -> Scalar:
        return self.s.bits("and", self, self._with(other))

    def __or__(self, other: Scalar | int) -> Scalar:
        return self.s.bits("or", self, self._with(other))

    def __xor__(self, other: Scalar | int) -> Scalar:
        return self.s.bits("xor", self, self._with(other))

    def __invert__(self) -> Scalar:
        return self.s.bits("xor", self, self.s.constant(True if self.dtype == BOOL else -1, self.dtype))

    def __lshift__(self, other: Scalar | int) -> Scalar:
        return self.s.shift("left", self, self._with(other))

    def __rshift__(self, other: Scalar | int) -> Scalar:
        return self.s.shift("right", self, self._with(other))


class ScalarBuilder(ABC):
    """What a machine offers. Floats follow IEEE 754, rounding to nearest; integers wrap around."""

    #: Whether the machine has `scale` as one instruction; without it, nobody may call it.
    scales = False
    #: Whether the machine has `fmod` of floats; without it, nobody may call it.
    fmods = False
    #: Whether the machine has float64. Without it functions of float32 do without it as well, some with a larger error.
    doubles = True

    @abstractmethod
    def constant(self, value: Any, dtype: DType) -> Scalar:
        """A number; an integer is taken modulo the width, a float is rounded once."""

    @abstractmethod
    def add(self, x: Scalar, y: Scalar) -> Scalar: ...

    @abstractmethod
    def sub(self, x: Scalar, y: Scalar) -> Scalar: ...

    @abstractmethod
    def mul(self, x: Scalar, y: Scalar) -> Scalar: ...

    @abstractmethod
    def div(self, x: Scalar, y: Scalar) -> Scalar:
        """The quotient; of integers the one rounded towards zero, y must not be 0 and x / y must fit."""

    @abstractmethod
    def rem(self, x: Scalar, y: Scalar) -> Scalar:
        """Of integers: x - trunc(x / y) y, under the same conditions."""

    @abstractmethod
    def neg(self, x: Scalar) -> Scalar: ...

    @abstractmethod
    def abs(self, x: Scalar) -> Scalar: ...

    @abstractmethod
    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        """x y + z of floats, rounded once."""

    @abstractmethod
    def sqrt(self, x: Scalar) -> Scalar:
        """The correctly rounded square root."""

    def scale(self, x: Scalar, n: Scalar) -> Scalar:
        """x 2ⁿ for an integral float n, rounded once, where the result is subnormal or overflows as well."""
        raise NotImplementedError("this machine does not scale by powers of two")

    def fmod(self, x: Scalar, y: Scalar) -> Scalar:
        """x - trunc(x / y) y of floats, exact, with the sign of x."""
        raise NotImplementedError("this machine has no fmod")

    @abstractmethod
    def round(self, how: str, x: Scalar) -> Scalar:
        """A float to an integral float: "floor", "ceil", "trunc" or "rint" (halves to even)."""

    @abstractmethod
    def copysign(self, x: Scalar, y: Scalar) -> Scalar: ...

    @abstractmethod
    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        """"lt", "le", "gt", "ge", "eq", "ne": a bool; with nan all but "ne" are false."""

    @abstractmethod
    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar: ...

    @abstractmethod
    def bits(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        """"and", "or", "xor" of integers or bools."""

    @abstractmethod
    def shift(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        """"left" or "right" by y, 0 <= y < width; a right shift of a signed integer keeps the sign."""

    @abstractmethod
    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        """As NumPy's astype. A float that no integer of the dtype comes near gives what the machine gives."""

    @abstractmethod
    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        """The same bits as another dtype of the same width."""

    def rarely(self, condition: Scalar, compute: Callable[[], Sequence[Scalar]], usual: Sequence[Scalar]) -> list[Scalar]:
        """compute() where the condition holds, else `usual`. A machine may skip `compute` where no lane needs it."""
        return [self.select(condition, x, y) for x, y in zip(compute(), usual, strict=True)]

    # -- made of these ------------------------------------------------------------------------------------

    def eq(self, x: Scalar, y: Scalar | float) -> Scalar:
        return self.compare("eq", x, x._with(y))

    def ne(self, x: Scalar, y: Scalar | float) -> Scalar:
        return self.compare("ne", x, x._with(y))

    def is_nan(self, x: Scalar) -> Scalar:
        return self.compare("ne", x, x)

    def maximum(self, x: Scalar, y: Scalar) -> Scalar:
        """The larger; nan if either is nan."""
        larger = self.select(x > y, x, y)
        return self.select(self.is_nan(x), x, larger) if x.dtype in FLOATS else larger

    def minimum(self, x: Scalar, y: Scalar) -> Scalar:
        """The smaller; nan if either is nan."""
        smaller = self.select(x < y, x, y)
        return self.select(self.is_nan(x), x, smaller) if x.dtype in FLOATS else smaller

    def horner(self, x: Scalar, coefficients: tuple[float, ...]) -> Scalar:
        """The polynomial with these coefficients, the highest power first, by fused multiply-adds."""
        first, *rest = coefficients
        y = self.constant(first, x.dtype)
        for c in rest:
            y = self.fma(y, x, self.constant(c, x.dtype))
        return y
