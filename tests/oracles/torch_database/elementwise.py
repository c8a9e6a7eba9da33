"""Entries of PyTorch's operator database that act on each element, and the functions of ours that answer them.

None is written with operators, which would be NumPy's on arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph.numpy as np_
from nagraph.nn import functional as F
from tests.oracles.tolerance import is_float
from tests.oracles.torch_database.counterpart import fitting, unoffered

#: The same function under another name, or under the same.
SAME = {
    "abs": np_.abs, "acos": np_.arccos, "acosh": np_.arccosh, "asin": np_.arcsin, "asinh": np_.arcsinh, "atan": np_.arctan,
    "atan2": np_.arctan2, "atanh": np_.arctanh, "bitwise_and": np_.bitwise_and, "bitwise_left_shift": np_.left_shift,
    "bitwise_not": np_.bitwise_not, "bitwise_or": np_.bitwise_or, "bitwise_right_shift": np_.right_shift,
    "bitwise_xor": np_.bitwise_xor, "ceil": np_.ceil, "copysign": np_.copysign, "cos": np_.cos, "cosh": np_.cosh,
    "div.floor_rounding": lambda x, y, rounding_mode: np_.floor_divide(x, y), "div.no_rounding_mode": np_.divide,
    "eq": np_.equal, "erf": np_.erf, "erfc": np_.erfc, "exp": np_.exp, "exp2": np_.exp2, "expm1": np_.expm1, "floor": np_.floor,
    "floor_divide": np_.floor_divide, "fmod": np_.fmod, "ge": np_.greater_equal, "gt": np_.greater, "isfinite": np_.isfinite,
    "isinf": np_.isinf, "isnan": np_.isnan, "le": np_.less_equal, "log": np_.log, "log10": np_.log10, "log1p": np_.log1p,
    "log2": np_.log2, "logical_and": np_.logical_and, "logical_not": np_.logical_not, "logical_or": np_.logical_or,
    "logical_xor": np_.logical_xor, "lt": np_.less, "max.binary": np_.maximum, "maximum": np_.maximum, "min.binary": np_.minimum,
    "minimum": np_.minimum, "mul": np_.multiply, "ne": np_.not_equal, "neg": np_.negative, "nextafter": np_.nextafter,
    "reciprocal": np_.reciprocal, "remainder": np_.remainder, "round": np_.round, "rsqrt": np_.rsqrt,
    "sigmoid": np_.sigmoid, "sin": np_.sin, "sinh": np_.sinh, "sqrt": np_.sqrt,
    "square": np_.square, "tan": np_.tan, "tanh": np_.tanh, "true_divide": np_.divide, "trunc": np_.trunc,
    "__radd__": lambda x, y: np_.add(y, x), "__rand__": lambda x, y: np_.bitwise_and(y, x), "__rdiv__": lambda x, y: np_.divide(y, x),
    "__rmod__": lambda x, y: np_.remainder(y, x), "__rmul__": lambda x, y: np_.multiply(y, x),
    "__ror__": lambda x, y: np_.bitwise_or(y, x),
    "__rsub__": lambda x, y: np_.subtract(y, x), "__rxor__": lambda x, y: np_.bitwise_xor(y, x),
    "nn.functional.relu": F.relu, "nn.functional.silu": F.silu,
}


def scaled(x: Any, alpha: float) -> Any:
    return x if alpha == 1 else np_.multiply(x, fitting(alpha, x.dtype) if hasattr(x, "dtype") else alpha)


def add(x: Any, y: Any, *, alpha: float = 1) -> Any:
    return np_.add(x, scaled(y, alpha))


def subtract(x: Any, y: Any, *, alpha: float = 1) -> Any:
    return np_.subtract(x, scaled(y, alpha))


def reversed_subtract(x: Any, y: Any, *, alpha: float = 1) -> Any:
    return np_.subtract(y, scaled(x, alpha))


def in_one_dtype(fn: Any) -> Any:
    """PyTorch promotes all operands before it computes, where a composition promotes as it goes."""
    def computed(*xs: Any, value: float = 1) -> Any:
        dtype = np_.add(*(np.zeros((), x.dtype) for x in xs[:2])).dtype
        dtype = np_.add(np.zeros((), dtype), np.zeros((), xs[2].dtype)).dtype
        return fn(*(np_.astype(x, dtype) for x in xs), value)

    return computed


def hypot(x: Any, y: Any) -> Any:
    """Without overflow, and infinite where an operand is."""
    x, y = np_.abs(x), np_.abs(y)
    large = np_.maximum(x, y)
    share = np_.divide(np_.minimum(x, y), np_.where(np_.greater(large, 0), large, np.ones((), large.dtype)))
    length = np_.multiply(large, np_.sqrt(np_.add(1, np_.square(share))))
    return np_.where(np_.logical_or(np_.isinf(x), np_.isinf(y)), np.full((), np.inf, large.dtype), length)


def truncated_quotient(x: Any, y: Any, *, rounding_mode: str) -> Any:
    if all(getattr(v, "dtype", np.dtype(int)).kind in "iub" for v in (x, y)):
        unoffered("integers divided towards zero")
    return np_.trunc(np_.divide(x, y))


def power(x: Any, y: Any) -> Any:
    """PyTorch has 0 where an integer to a negative power is an error in NumPy and here; what is called eagerly first tells."""
    integers = all(getattr(v, "dtype", np.dtype(type(v))).kind in "iu" for v in (x, y))
    if integers and isinstance(y, (int, np.ndarray)) and np.any(np.less(y, 0)):
        unoffered("an integer to a negative power")
    return np_.power(x, y)


def sign(x: Any) -> Any:
    """PyTorch's is 0 of nan, ours and NumPy's nan."""
    return np_.where(np_.isnan(x), np.zeros((), x.dtype), np_.sign(x)) if is_float(x.dtype) else np_.sign(x)


def clamp(x: Any, low: Any = None, high: Any = None) -> Any:
    return np_.clip(x, low, high)


def rounded(x: Any, *, decimals: int) -> Any:
    return np_.round(x, decimals)


def lerp(x: Any, y: Any, weight: Any) -> Any:
    apart = np_.subtract(y, x)
    if not hasattr(weight, "shape"):
        return np_.add(x, np_.multiply(weight, apart)) if abs(weight) < 0.5 else np_.subtract(y, np_.multiply(1 - weight, apart))
    return np_.where(np_.less(np_.abs(weight), 0.5), np_.add(x, np_.multiply(weight, apart)),
                     np_.subtract(y, np_.multiply(np_.subtract(1, weight), apart)))


def elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    return F.elu(x, alpha) if scale == 1 == input_scale else unoffered("elu with scales")


def selu(x: Any) -> Any:
    return np_.multiply(1.0507009873554805, F.elu(x, 1.6732632423543772))


def gelu(x: Any, *, approximate: str = "none") -> Any:
    return F.gelu_tanh(x) if approximate == "tanh" else F.gelu(x)


def softplus(x: Any, *, beta: float = 1, threshold: float = 20) -> Any:
    """PyTorch's is the identity above a threshold, ours is exact throughout; 16-bit floats are scaled in float32."""
    wide = np_.astype(x, "f32") if x.dtype.itemsize == 2 else x
    scaled = np_.multiply(wide, beta)
    return np_.astype(np_.where(np_.greater(scaled, threshold), wide, np_.divide(F.softplus(scaled), beta)), x.dtype)


def prelu(x: Any, weight: Any) -> Any:
    channel = weight if not weight.shape or len(x.shape) < 2 else np_.reshape(weight, (-1, *(1,) * (len(x.shape) - 2)))
    return F.leaky_relu(x, np_.reshape(channel, ()) if len(x.shape) == 0 else channel)


def glu(x: Any, dim: int = -1) -> Any:
    half, gate = np_.split(x, 2, axis=dim)
    return half * np_.sigmoid(gate)


def logit(x: Any, eps: float | None = None) -> Any:
    x = np_.divide(x, 1) if eps is None else np_.clip(x, eps, 1 - eps)
    return np_.log(np_.divide(x, np_.subtract(1, x)))


def hard_sigmoid(x: Any) -> Any:
    return np_.divide(np_.clip(np_.add(x, 3), 0, 6), 6)


def threshold(x: Any, threshold: float, value: float) -> Any:
    return np_.where(x <= threshold, fitting(value, x.dtype), x)


def soft_shrink(x: Any, lambd: float = 0.5) -> Any:
    moved = np_.where(np_.greater(x, 0), np_.subtract(x, lambd), np_.add(x, lambd))
    return np_.where(np_.less_equal(np_.abs(x), lambd), np.zeros((), x.dtype), moved)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return np_.where(mask, np_.astype(value if hasattr(value, "dtype") else np.asarray(value), x.dtype), x)


WRITTEN_OUT = {
    "add": add, "sub": subtract, "rsub": reversed_subtract, "div.trunc_rounding": truncated_quotient, "clamp": clamp,
    "clamp_max": np_.minimum, "clamp_min": np_.maximum, "positive": lambda x: +x,
    "pow": power, "__rpow__": lambda x, y: power(y, x), "sgn": sign, "sign": sign,
    "round.decimals_0": rounded, "round.decimals_3": rounded, "round.decimals_neg_3": rounded, "lerp": lerp,
    "addcmul": in_one_dtype(lambda x, a, b, value: np_.add(x, np_.multiply(value, np_.multiply(a, b)))),
    "addcdiv": in_one_dtype(lambda x, a, b, value: np_.add(x, np_.multiply(value, np_.divide(a, b)))),
    "frac": lambda x: x - np_.trunc(x), "hypot": hypot,
    "deg2rad": lambda x: np_.multiply(x, 0.017453292519943295), "rad2deg": lambda x: np_.multiply(x, 57.29577951308232),
    "where": lambda x, condition, y: np_.where(condition, x, y), "masked_fill": masked_fill, "logit": logit,
    "nn.functional.elu": elu, "nn.functional.celu": lambda x, alpha=1.0: np_.multiply(F.elu(np_.divide(x, alpha)), alpha),
    "nn.functional.selu": selu,
    "nn.functional.gelu": gelu, "nn.functional.softplus": softplus, "nn.functional.leaky_relu": F.leaky_relu,
    "nn.functional.prelu": prelu, "nn.functional.glu": glu, "nn.functional.relu6": lambda x: np_.minimum(F.relu(x), 6),
    "nn.functional.hardtanh": lambda x, min_val=-1.0, max_val=1.0: np_.clip(x, min_val, max_val),
    "nn.functional.hardsigmoid": hard_sigmoid,
    "nn.functional.hardswish": lambda x: np_.multiply(x, hard_sigmoid(x)),
    "nn.functional.logsigmoid": lambda x: -F.softplus(-x), "nn.functional.mish": lambda x: x * np_.tanh(F.softplus(x)),
    "nn.functional.softsign": lambda x: np_.divide(x, np_.add(1, np_.abs(x))), "nn.functional.tanhshrink": lambda x: x - np_.tanh(x),
    "nn.functional.threshold": threshold,
    "nn.functional.softshrink": soft_shrink,
    "nn.functional.hardshrink": lambda x, lambd=0.5: np_.where(
        np_.logical_and(np_.greater_equal(x, -lambd), np_.less_equal(x, lambd)), 0, x),
}

COUNTERPARTS = {**SAME, **WRITTEN_OUT}
