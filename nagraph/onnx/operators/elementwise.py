"""Arithmetic, comparisons, logic and elementary functions, element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import FLOATS, INTEGERS
from nagraph.onnx.registry import operator

_UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": F.abs, "Neg": F.negative, "Ceil": F.ceil, "Floor": F.floor, "Round": F.rint, "Sign": F.sign, "Sqrt": F.sqrt,
    "Exp": F.exp, "Log": F.log, "Erf": F.erf, "Reciprocal": F.reciprocal, "Not": F.logical_not, "BitwiseNot": F.bitwise_not,
    "Sin": F.sin, "Cos": F.cos, "Tan": F.tan, "Asin": F.arcsin, "Acos": F.arccos, "Atan": F.arctan,
    "Sinh": F.sinh, "Cosh": F.cosh, "Tanh": F.tanh, "Asinh": F.arcsinh, "Acosh": F.arccosh, "Atanh": F.arctanh,
    "IsNaN": F.isnan,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": F.add, "Sub": F.subtract, "Mul": F.multiply,
    "And": F.logical_and, "Or": F.logical_or, "Xor": F.logical_xor,
    "Equal": F.equal, "Greater": F.greater, "GreaterOrEqual": F.greater_equal, "Less": F.less, "LessOrEqual": F.less_equal,
    "BitwiseAnd": F.bitwise_and, "BitwiseOr": F.bitwise_or, "BitwiseXor": F.bitwise_xor,
}


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(x)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def made(x: Any, y: Any) -> Any:
        same_dtypes(x, y)
        return function(x, y)

    return made


for _name, _function in _UNARY.items():
    operator(_name)(_unary(_function))
for _name, _function in _BINARY.items():  # type: ignore[assignment]
    operator(_name)(_binary(_function))  # type: ignore[arg-type]


def same_dtypes(*values: Any) -> None:
    """OnnxError unless all have one dtype: ONNX promotes nothing."""
    found = dict.fromkeys(v.dtype for v in values)
    if len(found) > 1:
        raise OnnxError(f"its operands are {' and '.join(map(str, found))}, but must have one element type; Cast one of them")


@operator("Div")
def divide(x: Any, y: Any) -> Any:
    """Of integers towards zero."""
    same_dtypes(x, y)
    if x.dtype in INTEGERS:
        return F.floor_divide(x - F.fmod(x, y), y) if x.dtype.kind == "i" else F.floor_divide(x, y)
    return F.divide(x, y)


@operator("Mod")
def modulo(x: Any, y: Any, *, fmod: bool = False) -> Any:
    same_dtypes(x, y)
    return F.fmod(x, y) if fmod else F.remainder(x, y)


@operator("Pow")
def power(x: Any, y: Any) -> Any:
    """The result has the dtype of x, whatever that of the exponent."""
    if x.dtype in INTEGERS and y.dtype in FLOATS:
        return F.astype(F.power(F.astype(x, "f64"), F.astype(y, "f64")), x.dtype)
    return F.power(x, F.astype(y, x.dtype))


def _fold(function: Callable[[Any, Any], Any], values: tuple[Any, ...]) -> Any:
    if not values:
        raise OnnxError("it has no inputs, but needs one at least")
    same_dtypes(*values)
    return functools.reduce(function, values)


@operator("Max")
def maximum(*xs: Any) -> Any:
    return _fold(F.maximum, xs)


@operator("Min")
def minimum(*xs: Any) -> Any:
    return _fold(F.minimum, xs)


@operator("Sum")
def sum_of_all(*xs: Any) -> Any:
    return _fold(F.add, xs)


@operator("Mean")
def mean_of_all(*xs: Any) -> Any:
    return _fold(F.add, xs) / len(xs)


@operator("Where")
def where(condition: Any, x: Any, y: Any) -> Any:
    same_dtypes(x, y)
    if condition.dtype != np.bool_:
        raise OnnxError(f"its condition is {condition.dtype}, but must be bool")
    return F.where(condition, x, y)


@operator("Clip")
def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """min(max(x, low), high), so that `high` wins where low > high."""
    same_dtypes(*(v for v in (x, low, high) if v is not None))
    if low is not None:
        x = F.maximum(x, F.reshape(low, ()))
    return x if high is None else F.minimum(x, F.reshape(high, ()))


@operator("BitShift")
def shift(x: Any, y: Any, *, direction: str) -> Any:
    same_dtypes(x, y)
    if direction not in ("LEFT", "RIGHT"):
        raise OnnxError(f"direction is LEFT or RIGHT, not {direction!r}")
    return (F.left_shift if direction == "LEFT" else F.right_shift)(x, y)


@operator("IsInf")
def is_infinite(x: Any, *, detect_negative: bool = True, detect_positive: bool = True) -> Any:
    if detect_negative and detect_positive:
        return F.isinf(x)
    none = F.zeros(x.shape, np.bool_)
    sign = F.less(x, 0) if detect_negative else F.greater(x, 0)
    return F.logical_and(F.isinf(x), sign) if detect_negative or detect_positive else none
