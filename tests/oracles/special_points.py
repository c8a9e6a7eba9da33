"""What is tried at special points: for every public function a row, and the conventions where a derivative has no limit.

A row says how our function and the exact one are called, and where. Where the one-sided limits of the exact derivative
agree, ours must be that; where they do not, the convention is written here, and it must lie between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import nagraph as ng
from nagraph import numpy as N
from nagraph.nn import functional as F
from nagraph.nn import losses
from tests.oracles import exact_functions as exact

INF = math.inf
Point = tuple[float, ...]


class Kink(NamedTuple):
    """A derivative by convention: of which order, what it is at a point for each argument, and in words."""

    order: int
    value: Callable[..., float]
    words: str


#: Elementwise functions at their kinks: value(argument, *point).
KINKS: dict[str, Kink] = {
    **dict.fromkeys(("abs", "absolute"), Kink(1, lambda i, x: 0, "0 at 0")),
    "relu": Kink(1, lambda i, x: 0, "0 at 0"),
    "leaky_relu": Kink(1, lambda i, x: 0.01, "the slope of the left side at 0"),
    "elu": Kink(2, lambda i, x: 1, "second derivative of the left side, alpha, at 0"),
    "maximum": Kink(1, lambda i, x, y: 0.5, "each of two equal operands gets half"),
    "minimum": Kink(1, lambda i, x, y: 0.5, "each of two equal operands gets half"),
    "clip": Kink(1, lambda i, x, low, high: float(i == (2 if low >= high else 0 if low <= x <= high else 1 if x < low else 2)),
                 "x gets it in the closed interval, a limit outside; where low >= high, high"),
    "copysign": Kink(1, lambda i, x, y: math.copysign(1, x) * math.copysign(1, y) if i == 0 else 0,
                     "the product of both signs, signed zeros too"),
    "fmod": Kink(1, lambda i, x, y: (1, -math.trunc(x / y))[i], "by the quotient that the value has"),
    **dict.fromkeys(("remainder", "mod"), Kink(1, lambda i, x, y: (1, -math.floor(x / y))[i], "by the quotient that the value has")),
    "huber": Kink(2, lambda i, x: 1, "second derivative 1 up to and at delta"),
}
#: Functions of vectors whose conventions are not PyTorch's, and what they are.
OTHER_THAN_PYTORCH = {
    "cummax": "of equal elements the first gets it; in PyTorch the last",
    "cummin": "of equal elements the first gets it; in PyTorch the last",
    "cosine_embedding at its margin": "half the slope, as of any maximum; in PyTorch all of it",
}
#: Functions that multiply infinity by zero on the way: their derivative at infinity is nan, as PyTorch's is. From where on.
NAN_AT_INFINITY = {"gelu": INF, "silu": INF, "gelu_tanh": 1e150, "focal, t = 1": INF, "focal, t = 0": INF}

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.7, -3.7, 20.0, -20.0, 800.0, -800.0, 1e-8, -1e-8, 1e-200, -1e-200, 1e200, -1e200,
           INF, -INF]
FEW = (0.0, 1.0, -1.0, 0.5, 2.0, -2.5, 3.0)


def pairs(xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
    return [(x, y) for x in xs for y in ys]


#: Where functions of several numbers are tried.
GRIDS: dict[str, list[Point]] = {
    **dict.fromkeys(("divide", "true_divide", "multiply"),
                    pairs((0.0, 1.0, -2.5, 1e-200, 1e200, INF), (1.0, -0.5, 1e-100, 1e100)) + pairs((1.0, -2.5), (0.0,))),
    **dict.fromkeys(("maximum", "minimum"), pairs((*FEW, -0.0, INF, -INF), (*FEW, 1e-200, 1e10))),
    **dict.fromkeys(("power", "pow"),
                    pairs((0.0, -0.0, 1.0, 2.0, -2.0, 1e-100, 1e100), (0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 2.5, -1.0, -0.5, -0.0))),
    "arctan2": pairs((0.0, 1.0, -2.5, 1e-200, 1e200), (0.0, 1.0, -1.0))
    + [(1e-200, 1e-200), (1e200, -1e200), (1e200, 1e-200), (-3e-170, 1e-170)],
    **dict.fromkeys(("fmod", "remainder", "mod"), pairs((*FEW, 7.25, -1e3), (1.0, -1.0, 0.5, 2.0, -2.5))),
    "copysign": pairs((*FEW, -0.0, 1e200), (1.0, -2.0)), "nextafter": pairs((*FEW, -0.0, 1e200, INF), (1.0, -2.0, INF)),
    "clip": [(x, low, high) for x in (0.0, 1.0, 2.0, INF, -INF) for low in (0.0, 1.0, 2.0) for high in (0.0, 1.0, 2.0)],
}


class Row(NamedTuple):
    """A function of a vector: ours, the exact one on a list, points, and the first derivative by convention at some of them."""

    ours: Callable[[Any], Any]
    exact: Callable[[Sequence[Any]], Any]
    points: list[Point]
    kinks: dict[Point, Point] = {}  # noqa: RUF012 - read only


VECTORS: list[Point] = [(0.0, 0.0, 0.0), (1.0, 2.0, -3.0), (2.0, 2.0, -1.0), (1e-8, 0.0, -1e-8), (700.0, -800.0, 800.0)]
MASKED: list[Point] = [(0.0, -INF, 1.0), (-INF, -INF, 2.0)]
TIES: list[Point] = [(3.0, 1.0, 3.0), (0.0, -0.0, -1.0), (1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (1.0, -INF, INF)]
PAIRS: list[Point] = [(3.0, 1.0, 3.0), (0.0, -0.0, -1.0), (1.0, 2.0, 3.0)]
Y, Z, W = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.5, -1.0]), np.array([0.7, -1.2, 0.4])
KEYS = np.array([[1.0, 0.5, -1.0], [0.2, 2.0, 0.1], [-1.0, 1.0, 1.0]])


def _loss(loss: Callable[..., Any], *others: Any, **options: Any) -> Callable[[Any], Any]:
    """The losses of single predictions."""
    return lambda x: loss(x, *(np.full(x.shape, v) for v in others), reduction="none", **options)


#: Losses of single numbers, as elementwise functions of the prediction.
LOSSES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[float]]] = {
    "mse": (_loss(losses.mse, 0.5), lambda x: (x - 0.5)**2, NUMBERS),
    "huber": (_loss(losses.huber, 0.0), lambda x: exact.huber(x, 0, 1), NUMBERS),
    **{f"binary_cross_entropy_with_logits, t = {t}": (
        _loss(losses.binary_cross_entropy_with_logits, t), lambda x, t=t: exact.softplus(x) - t * x, [x for x in NUMBERS if abs(x) < INF])
       for t in (0.0, 1.0, 0.5)},
    **{f"focal, t = {t:.0f}": (_loss(losses.focal, t), lambda x, t=t: exact.focal(x, t), [x for x in NUMBERS if abs(x) < INF])
       for t in (0.0, 1.0)},
    **{f"binary_cross_entropy, t = {t}": (
        _loss(losses.binary_cross_entropy, t), lambda x, t=t: exact.binary_cross_entropy(x, t), [0.5, 1e-8, 1 - 1e-8])
       for t in (0.0, 1.0, 0.5)},
}
ROWS: dict[str, Row] = {
    **{n: Row(getattr(N, n), max, TIES, {(3.0, 1.0, 3.0): (0.5, 0, 0.5), (0.0, -0.0, -1.0): (0.5, 0.5, 0), (1.0, 1.0, 1.0): (1 / 3,) * 3})
       for n in ("max", "amax")},
    **{n: Row(getattr(N, n), min, TIES, {(0.0, -0.0, -1.0): (0, 0, 1), (1.0, 1.0, 1.0): (1 / 3,) * 3}) for n in ("min", "amin")},
    "cummax": Row(lambda x: N.cummax(x), exact.running(max), TIES[:4], {
        (3.0, 1.0, 3.0): (1 - 2 + 0.5, 0, 0), (0.0, -0.0, -1.0): (1 - 2 + 0.5, 0, 0), (1.0, 1.0, 1.0): (1 - 2 + 0.5, 0, 0)}),
    "cummin": Row(lambda x: N.cummin(x), exact.running(min), TIES[:4], {
        (3.0, 1.0, 3.0): (1, -2 + 0.5, 0), (0.0, -0.0, -1.0): (1 - 2, 0, 0.5), (1.0, 1.0, 1.0): (1 - 2 + 0.5, 0, 0)}),
    "sort": Row(N.sort, sorted, PAIRS, {(3.0, 1.0, 3.0): (-2, 1, 0.5), (0.0, -0.0, -1.0): (-2, 0.5, 1)}),
    "top_k": Row(lambda x: N.top_k(x, 2)[0], lambda xs: sorted(xs)[:0:-1], PAIRS, {
        (3.0, 1.0, 3.0): (1, 0, -2), (0.0, -0.0, -1.0): (1, -2, 0)}),
    "max_pool": Row(lambda x: F.max_pool(x[None, None], 2, stride=1), lambda xs: [max(xs[:2]), max(xs[1:])], PAIRS, {
        (0.0, -0.0, -1.0): (1, -2, 0)}),
    **{f"{n}_at": Row(lambda x, n=n: getattr(N, f"{n}_at")(x, np.array([0, 0]), x[1:]), lambda xs, f=f: [f(xs), xs[1], xs[2]], TIES[3:4])
       for n, f in (("max", max), ("min", min))},
    "prod": Row(N.prod, exact.product, [*VECTORS[:4], (0.0, 2.0, 3.0), (0.0, 0.0, 3.0)]),
    "cumprod": Row(N.cumprod, exact.running(exact.product), [*VECTORS[:4], (0.0, 2.0, 3.0), (2.0, 0.0, 0.0)]),
    "var": Row(N.var, exact.variance, VECTORS),
    "std": Row(N.std, lambda xs: exact.mp.sqrt(exact.variance(xs)), VECTORS, {(0.0, 0.0, 0.0): (0, 0, 0)}),
    "linalg.norm": Row(N.linalg.norm, exact.norm, VECTORS, {(0.0, 0.0, 0.0): (0, 0, 0)}),
    "softmax": Row(F.softmax, exact.softmax, VECTORS + MASKED),
    "log_softmax": Row(F.log_softmax, exact.log_softmax, VECTORS + MASKED),
    "logsumexp": Row(F.logsumexp, exact.logsumexp, VECTORS + MASKED),
    "layer_norm": Row(lambda x: F.layer_norm(x, W, Y), lambda xs: [a * w + y for a, w, y in zip(exact.standardized(xs), W, Y)], VECTORS),
    "rms_norm": Row(lambda x: F.rms_norm(x, W), lambda xs: [
        x * w / exact.mp.sqrt(exact.dot(xs, xs) / 3 + exact.mpf(1e-6)) for x, w in zip(xs, W)], VECTORS),
    "group_norm": Row(lambda x: F.group_norm(x[None], groups=1), exact.standardized, VECTORS),
    "batch_norm": Row(lambda x: F.batch_norm(x[None], Y, np.zeros(3)), lambda xs: [
        (x - y) / exact.mp.sqrt(exact.mpf(1e-5)) for x, y in zip(xs, Y)], VECTORS),
    "batch_norm_training": Row(lambda x: F.batch_norm_training(x[:, None])[0], exact.standardized, VECTORS),
    "attention": Row(lambda q: F.attention(q[None, None], KEYS[None], W[None, :, None], np.array([True, False, True])),
                     lambda q: exact.attention(q, KEYS, W, (True, False, True)), VECTORS[:4]),
    "attention, fully masked": Row(lambda q: F.attention(q[None, None], KEYS[None], W[None, :, None], np.zeros(3, bool)),
                                   lambda q: exact.ZERO, VECTORS[:4]),
    "cross_entropy": Row(lambda x: losses.cross_entropy(x[None], np.array([2])), lambda xs: exact.cross_entropy(xs, 2), VECTORS + MASKED),
    "cross_entropy, smoothed": Row(lambda x: losses.cross_entropy(x[None], np.array([1]), label_smoothing=0.25),
                                   lambda xs: exact.cross_entropy(xs, 1, 0.25), VECTORS),
    "kl_divergence": Row(lambda x: losses.kl_divergence(x, np.array([0.25, 0.75, 0.0])),
                         lambda xs: exact.kl(xs, (0.25, 0.75, 0)), VECTORS + MASKED),
    "cosine_similarity": Row(lambda x: losses.cosine_similarity(x, Y), lambda xs: exact.cosine(xs, Y), VECTORS),
    "cosine_embedding": Row(lambda x: losses.cosine_embedding(x[None], Y[None], np.array([1])),
                            lambda xs: 1 - exact.cosine(xs, Y), VECTORS),
    "cosine_embedding at its margin": Row(lambda x: losses.cosine_embedding(x[None], np.array([[1.0, 0, 0]]), np.array([-1])),
                                          lambda xs: max(exact.cosine(xs, (1, 0, 0)), 0), [(0.0, 1.0, 0.0)],
                                          {(0.0, 1.0, 0.0): (0.5, 0, 0)}),
    "triplet": Row(lambda x: losses.triplet(x[None], Y[None], Z[None]), lambda xs: exact.triplet(xs, Y, Z, 1), [*VECTORS, tuple(Y)]),
    "triplet at its margin": Row(lambda x: losses.triplet(x[None], np.zeros((1, 3)), np.zeros((1, 3)), margin=0.0),
                                 lambda xs: exact.triplet(xs, (0,) * 3, (0,) * 3, 0), [(1.0, 0.0, 0.0)]),
    "triplet, by the positive": Row(lambda x: losses.triplet(Y[None], x[None], Z[None]), lambda xs: exact.triplet(Y, xs, Z, 1),
                                    [*VECTORS[1:4], tuple(Y)]),
    "attention, by a key": Row(lambda k: F.attention(Y[None, None], N.stack([k, KEYS[1], KEYS[2]])[None], W[None, :, None]),
                               lambda k: exact.attention(Y, (k, KEYS[1], KEYS[2]), W, (True,) * 3), VECTORS[:4]),
    "contrastive": Row(lambda x: losses.contrastive(N.stack([x, Y]), np.stack([Z, W]), temperature=0.5), lambda xs: _contrastive(xs),
                       VECTORS[1:4]),
}


def _contrastive(xs: Sequence[Any]) -> Any:
    rows, columns = ([exact.unit(v, 1e-38) for v in pair] for pair in ((xs, Y), (Z, W)))
    logits = [[2 * exact.dot(a, b) for b in columns] for a in rows]
    each = [exact.cross_entropy(m[i], i) for m in (logits, list(zip(*logits))) for i in range(2)]
    return exact.total(each) / 4


#: Linear in their first operand: how they are called. The derivative there does not depend on the point.
LINEAR: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: N.add(x, Y), "subtract": lambda x: N.subtract(Y, x), "sum": N.sum, "mean": N.mean, "cumsum": N.cumsum,
    "reshape": lambda x: N.reshape(x, (3, 1)), "ravel": N.ravel, "transpose": lambda x: N.transpose(x[None]),
    "permute_dims": lambda x: N.permute_dims(x[None], (1, 0)), "swapaxes": lambda x: N.swapaxes(x[None], 0, 1),
    "moveaxis": lambda x: N.moveaxis(x[None], 0, 1), "squeeze": lambda x: N.squeeze(x[None]), "expand_dims": lambda x: N.expand_dims(x, 0),
    "broadcast_to": lambda x: N.broadcast_to(x, (2, 3)), "broadcast_arrays": lambda x: N.broadcast_arrays(x, np.ones((2, 3)))[0],
    "concatenate": lambda x: N.concatenate([x, Y]), "concat": lambda x: N.concat([Y, x]), "stack": lambda x: N.stack([x, x]),
    "vstack": lambda x: N.vstack([x, Y]), "hstack": lambda x: N.hstack([x, Y]), "split": lambda x: N.split(x, 3)[1],
    "array_split": lambda x: N.array_split(x, 2)[0], "tile": lambda x: N.tile(x, 2), "repeat": lambda x: N.repeat(x, 2),
    "roll": lambda x: N.roll(x, 1), "flip": N.flip, "pad": lambda x: N.pad(x, 1), "take": lambda x: N.take(x, np.array([0, 0, 2])),
    "take_along_axis": lambda x: N.take_along_axis(x, np.array([1, 1]), 0), "diagonal": lambda x: N.diagonal(x[None]),
    "trace": lambda x: N.trace(x[None]), "tril": lambda x: N.tril(N.stack([x, x])), "triu": lambda x: N.triu(N.stack([x, x])),
    "where": lambda x: N.where(np.array([True, False, True]), x, Y), "astype": lambda x: N.astype(x, "float32"),
    "array": lambda x: N.array([x, x]), "asarray": N.asarray, "full": lambda x: N.full((2, 3), x),
    "dynamic_slice": lambda x: N.dynamic_slice(x, (np.int64(1),), (2,)),
    "dynamic_update_slice": lambda x: N.dynamic_update_slice(x, np.ones(1), (np.int64(1),)),
    "set_at": lambda x: N.set_at(x, 1, 5.0), "add_at": lambda x: N.add_at(x, np.array([1, 1]), 5.0),
    "matmul": lambda x: N.matmul(KEYS, x), "linalg.matmul": lambda x: N.linalg.matmul(KEYS, x), "dot": lambda x: N.dot(x, Y),
    "inner": lambda x: N.inner(x, Y), "outer": lambda x: N.outer(x, Y), "tensordot": lambda x: N.tensordot(KEYS, x, 1),
    "vdot": lambda x: N.vdot(x, Y), "einsum": lambda x: N.einsum("ij,j->i", KEYS, x),
    "rope": lambda x: F.rope(N.stack([x, x, x, x], -1), KEYS[:, :2], KEYS[:, 1:]),
    "conv": lambda x: F.conv(x[None, None], np.ones((1, 1, 2))),
    "conv_transpose": lambda x: F.conv_transpose(x[None, None], np.ones((1, 1, 2))),
    "avg_pool": lambda x: F.avg_pool(x[None, None], 2, stride=1),
}
#: Piecewise constant: the derivative is 0 everywhere, at the steps and at infinity too.
STEPS: dict[str, Callable[[Any], Any]] = {
    **{n: getattr(N, n) for n in ("floor", "ceil", "trunc", "rint", "round", "around", "fix", "sign")},
    "floor_divide": lambda x: N.floor_divide(x, 2.0), "stop_gradient": ng.stop_gradient,
}
#: No floating result, or none that depends on a floating operand.
NONE = frozenset("""all any argmax argmin argsort arange bitwise_and bitwise_not bitwise_or bitwise_xor equal eye full_like greater
    greater_equal invert isfinite isinf isnan left_shift less less_equal linspace logical_and logical_not logical_or logical_xor ndim
    not_equal one_hot ones ones_like right_shift shape size zeros zeros_like rope_tables""".split())


def public_names() -> Iterator[str]:
    """The functions of ng.numpy, of its linalg, of nn.functional and of nn.losses."""
    for module in (N, F, losses):
        yield from (n for n, v in vars(module).items() if callable(v) and not n.startswith("_") and not isinstance(v, type)
                    and n not in ("builtins_any",) and (module is not losses or getattr(v, "__module__", "") == losses.__name__))
    yield from (f"linalg.{n}" for n in vars(N.linalg) if not n.startswith("_"))


def rows() -> set[str]:
    """The functions that have a row; what follows a comma or a space tells its rows apart."""
    every = [*exact.UNARY, *exact.SEVERAL, *LOSSES, *ROWS, *LINEAR, *STEPS, *NONE]
    return {n.replace(",", " ").split()[0] for n in every}


def function(name: str) -> Callable[..., Any]:
    """The public function of this name."""
    found: Callable[..., Any] = getattr(N, name, None) or getattr(F, name)
    return found
