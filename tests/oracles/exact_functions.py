"""Formulas by mpmath, in as many digits as one likes: what our functions are, written without them. Vectors are lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpmath import mp, mpf

Real = Any
Vector = Sequence[Real]
ZERO, ONE = mpf(0), mpf(1)


def erfc(x: Real) -> Real:
    return mp.erfc(x) if abs(x) < 1e4 else mpf(0 if x > 0 else 2)  # mpmath fails where the digits are not enough


def cbrt(x: Real) -> Real:
    return mp.cbrt(x) if x >= 0 else -mp.cbrt(-x)


def trunc(x: Real) -> Real:
    return mp.floor(x) if x >= 0 else mp.ceil(x)


def sign(x: Real) -> Real:
    return mpf((x > 0) - (x < 0))


def sigmoid(x: Real) -> Real:
    return 1 / (1 + mp.exp(-x))


def softplus(x: Real) -> Real:
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def gelu(x: Real) -> Real:
    return x * erfc(-x / mp.sqrt(2)) / 2


def gelu_tanh(x: Real) -> Real:
    return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))


def power(x: Real, y: Real) -> Real:
    if y == 0:
        return ONE
    if x == 0:
        return ZERO if y > 0 else mp.inf
    return x**y


def clip(x: Real, low: Real, high: Real) -> Real:
    return min(max(x, low), high)


#: Functions of one number.
UNARY: dict[str, Callable[[Real], Real]] = {
    "abs": abs, "absolute": abs, "arccos": mp.acos, "arccosh": mp.acosh, "arcsin": mp.asin, "arcsinh": mp.asinh, "arctan": mp.atan,
    "arctanh": mp.atanh, "cbrt": cbrt, "cos": mp.cos, "cosh": mp.cosh, "erf": lambda x: 1 - erfc(x), "erfc": erfc, "exp": mp.exp,
    "exp2": lambda x: mpf(2)**x, "expm1": mp.expm1, "log": mp.log, "log10": lambda x: mp.log(x) / mp.log(10),
    "log1p": lambda x: mp.log(1 + x), "log2": lambda x: mp.log(x) / mp.log(2), "negative": lambda x: -x, "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / mp.sqrt(x), "sigmoid": sigmoid, "sin": mp.sin, "sinh": mp.sinh, "sqrt": mp.sqrt, "square": lambda x: x * x,
    "tan": mp.tan, "tanh": mp.tanh, "elu": lambda x: x if x > 0 else mp.expm1(x), "gelu": gelu, "gelu_tanh": gelu_tanh,
    "leaky_relu": lambda x: x if x > 0 else x / 100, "relu": lambda x: max(x, ZERO), "silu": lambda x: x * sigmoid(x),
    "softplus": softplus,
}
#: Functions of two numbers or three.
SEVERAL: dict[str, Callable[..., Real]] = {
    "divide": lambda x, y: x / y, "true_divide": lambda x, y: x / y, "multiply": lambda x, y: x * y, "maximum": max, "minimum": min,
    "power": power, "pow": power, "arctan2": mp.atan2, "fmod": lambda x, y: x - trunc(x / y) * y,
    "remainder": lambda x, y: x - mp.floor(x / y) * y, "mod": lambda x, y: x - mp.floor(x / y) * y,
    "copysign": lambda x, y: abs(x) * (1 if y >= 0 else -1), "clip": clip, "nextafter": lambda x, y: x,
}


def total(xs: Vector) -> Real:
    return mp.fsum(xs)


def dot(xs: Vector, ys: Vector) -> Real:
    return total([x * y for x, y in zip(xs, ys)])


def product(xs: Vector) -> Real:
    found = ONE
    for x in xs:
        found *= x
    return found


def running(combine: Callable[[Vector], Real]) -> Callable[[Vector], list[Real]]:
    return lambda xs: [combine(xs[:i + 1]) for i in range(len(xs))]


def logsumexp(xs: Vector) -> Real:
    return mp.log(total([mp.exp(x) for x in xs]))


def softmax(xs: Vector) -> list[Real]:
    es = [mp.exp(x) for x in xs]
    whole = total(es)
    return [e / whole for e in es]


def log_softmax(xs: Vector) -> list[Real]:
    whole = logsumexp(xs)
    return [x - whole for x in xs]


def variance(xs: Vector) -> Real:
    m = total(xs) / len(xs)
    return total([(x - m)**2 for x in xs]) / len(xs)


def standardized(xs: Vector, eps: float = 1e-5) -> list[Real]:
    m, r = total(xs) / len(xs), 1 / mp.sqrt(variance(xs) + mpf(eps))
    return [(x - m) * r for x in xs]


def norm(xs: Vector) -> Real:
    return mp.sqrt(dot(xs, xs))


def unit(xs: Vector, least: float) -> list[Real]:
    n = max(norm(xs), mp.sqrt(mpf(least)))
    return [x / n for x in xs]


def cosine(xs: Vector, ys: Vector, eps: float = 1e-8) -> Real:
    return dot(unit(xs, eps * eps), unit(ys, eps * eps))


def kl(log_predictions: Vector, targets: Vector) -> Real:
    return total([t * (mp.log(t) - x) for x, t in zip(log_predictions, targets) if t != 0])


def cross_entropy(xs: Vector, label: int, smoothing: float = 0) -> Real:
    logs, s = log_softmax(xs), mpf(smoothing)
    plain = -(1 - s) * logs[label]
    return plain - s * total(logs) / len(xs) if s else plain


def huber(x: Real, t: Real, delta: float) -> Real:
    r = abs(x - t)
    return r * r / 2 if r <= delta else delta * (r - mpf(delta) / 2)


def focal(x: Real, t: Real) -> Real:
    p = sigmoid(x)
    missed = p * (1 - t) + (1 - p) * t
    return (t / 4 + (1 - t) * 3 / 4) * missed**2 * (softplus(x) - t * x)


def binary_cross_entropy(p: Real, t: Real) -> Real:
    return -(t * (mp.log(p) if t else 0) + (1 - t) * (mp.log(1 - p) if t != 1 else 0))


def triplet(anchor: Vector, positive: Vector, negative: Vector, margin: float, eps: float = 1e-6) -> Real:
    near, far = (norm([a - b + mpf(eps) for a, b in zip(anchor, v)]) for v in (positive, negative))
    return max(near - far + margin, ZERO)


def attention(q: Vector, k: Sequence[Vector], v: Vector, seen: Sequence[bool]) -> Real:
    """One query; values of width one."""
    scores = [dot(q, row) / mp.sqrt(len(q)) if s else mp.ninf for row, s in zip(k, seen)]
    return dot(softmax(scores), v) if any(seen) else ZERO
