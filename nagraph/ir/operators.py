"""Python's operators on values, and the functions of ops by name, so that rules read as equations and `ir` knows no op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Functions:
    """The functions of ops, each an attribute: `functions.where(mask, x, 0)`. The modules of `nagraph.ops` register them.

    A rule reads from here what stands in a layer above its own (docs/architecture.md), and the operators all of theirs.
    """

    def register(self, **named: Callable[..., Any]) -> None:
        """Make functions known under these names."""
        vars(self).update(named)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"no function {name!r} of an op is registered: the module of nagraph.ops that defines it "
                             f"calls functions.register({name}={name})")


functions = Functions()

#: x op y = y op x, bit for bit.
COMMUTATIVE = frozenset((
    "add", "multiply", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor",
    "logical_and", "logical_or", "logical_xor",
))


class Operators:
    """Arithmetic, comparison (but not ==, which is identity), indexing, and matrix product."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return functions.add(self, other)

    def __radd__(self, other: Any) -> Any:
        return functions.add(other, self)

    def __sub__(self, other: Any) -> Any:
        return functions.subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        return functions.subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        return functions.multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        return functions.multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        return functions.divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return functions.divide(other, self)

    def __floordiv__(self, other: Any) -> Any:
        return functions.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return functions.floor_divide(other, self)

    def __mod__(self, other: Any) -> Any:
        return functions.remainder(self, other)

    def __rmod__(self, other: Any) -> Any:
        return functions.remainder(other, self)

    def __pow__(self, other: Any) -> Any:
        return functions.raised(self, other)

    def __rpow__(self, other: Any) -> Any:
        return functions.power(other, self)

    def __matmul__(self, other: Any) -> Any:
        return functions.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return functions.matmul(other, self)

    def __and__(self, other: Any) -> Any:
        return functions.bitwise_and(self, other)

    def __rand__(self, other: Any) -> Any:
        return functions.bitwise_and(other, self)

    def __or__(self, other: Any) -> Any:
        return functions.bitwise_or(self, other)

    def __ror__(self, other: Any) -> Any:
        return functions.bitwise_or(other, self)

    def __xor__(self, other: Any) -> Any:
        return functions.bitwise_xor(self, other)

    def __rxor__(self, other: Any) -> Any:
        return functions.bitwise_xor(other, self)

    def __lshift__(self, other: Any) -> Any:
        return functions.left_shift(self, other)

    def __rlshift__(self, other: Any) -> Any:
        return functions.left_shift(other, self)

    def __rshift__(self, other: Any) -> Any:
        return functions.right_shift(self, other)

    def __rrshift__(self, other: Any) -> Any:
        return functions.right_shift(other, self)

    def __neg__(self) -> Any:
        return functions.negative(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return functions.abs(self)

    def __invert__(self) -> Any:
        return functions.invert(self)

    def __lt__(self, other: Any) -> Any:
        return functions.less(self, other)

    def __le__(self, other: Any) -> Any:
        return functions.less_equal(self, other)

    def __gt__(self, other: Any) -> Any:
        return functions.greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return functions.greater_equal(self, other)

    def __getitem__(self, index: Any) -> Any:
        return functions.index(self, index)
