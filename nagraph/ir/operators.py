"""Python's operators on values, each an op looked up by name, so that rules read as equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Filled by `nagraph.ops`: the function behind each operator. `ir` itself knows no op.
FUNCTIONS: dict[str, Callable[..., Any]] = {}


#: x op y = y op x, bit for bit.
COMMUTATIVE = frozenset((
    "add", "multiply", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor",
    "logical_and", "logical_or", "logical_xor",
))


class Operators:
    """Arithmetic, comparison (but not ==, which is identity), indexing, and matrix product."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return FUNCTIONS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return FUNCTIONS["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return FUNCTIONS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return FUNCTIONS["subtract"](other, self)

    def __mul__(self, other: Any) -> Any:
        return FUNCTIONS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return FUNCTIONS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return FUNCTIONS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return FUNCTIONS["divide"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return FUNCTIONS["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return FUNCTIONS["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Any:
        return FUNCTIONS["remainder"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return FUNCTIONS["remainder"](other, self)

    def __pow__(self, other: Any) -> Any:
        return FUNCTIONS["raised"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return FUNCTIONS["power"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return FUNCTIONS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return FUNCTIONS["matmul"](other, self)

    def __and__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return FUNCTIONS["bitwise_xor"](other, self)

    def __lshift__(self, other: Any) -> Any:
        return FUNCTIONS["left_shift"](self, other)

    def __rlshift__(self, other: Any) -> Any:
        return FUNCTIONS["left_shift"](other, self)

    def __rshift__(self, other: Any) -> Any:
        return FUNCTIONS["right_shift"](self, other)

    def __rrshift__(self, other: Any) -> Any:
        return FUNCTIONS["right_shift"](other, self)

    def __neg__(self) -> Any:
        return FUNCTIONS["negative"](self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return FUNCTIONS["abs"](self)

    def __invert__(self) -> Any:
        return FUNCTIONS["invert"](self)

    def __lt__(self, other: Any) -> Any:
        return FUNCTIONS["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return FUNCTIONS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return FUNCTIONS["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return FUNCTIONS["greater_equal"](self, other)

    def __getitem__(self, index: Any) -> Any:
        return FUNCTIONS["index"](self, index)
