"""Derivatives at zero, ties, thresholds, infinities: every public function, orders 1 and 2, both modes, against exact limits.

Where the limits from both sides agree, ours is that limit. Where they differ, ours is the convention of `special_points.py`,
which lies between them. What nobody has written a row for is an error.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import nagraph as ng
from nagraph.ir.graph import Graph
from nagraph.ir.types import DTYPES, is_float
from nagraph.nn import functional as F
from nagraph.ops.base import Elementwise
from tests.oracles import exact_functions as exact
from tests.oracles.limits import mixed, one_sided
from tests.oracles.special_points import (
    GRIDS,
    INF,
    KINKS,
    LINEAR,
    LOSSES,
    NAN_AT_INFINITY,
    NUMBERS,
    OTHER_THAN_PYTORCH,
    ROWS,
    STEPS,
    Point,
    Row,
    function,
    public_names,
    rows,
)
from tests.support import own_ops

#: How far a derivative may be off, absolute and as a share of the exact one.
TOLERANCE = {"float64": (1e-8, 1e-6), "float32": (1e-3, 1e-3)}
ORDER = {"rev": 1, "fwd": 1, "rev of rev": 2, "fwd of rev": 2, "fwd of fwd": 2, "rev of fwd": 2}
Found = dict[str, np.ndarray]


def test_every_public_function_has_a_row() -> None:
    names = set(public_names())
    assert names - rows() == set(), "write a row in special_points.py for each"
    assert rows() - names == set(), "these are no functions any more"


def close(x: float, y: float, dtype: str = "float64") -> bool:
    absolute, relative = TOLERANCE[dtype]
    return x == y or (math.isfinite(x) and math.isfinite(y) and abs(x - y) <= absolute + relative * abs(y))


def elementwise(f: Callable[..., Any], points: Sequence[Point], argument: int, backend: str, dtype: str) -> Found:
    """All derivatives of f by one argument, at all points at once."""
    columns = [np.array(c, dtype) for c in zip(*points)]
    one = np.ones_like(columns[0])

    def along(x: Any) -> Any:
        return f(*columns[:argument], x, *columns[argument + 1:])

    def tangent(x: Any) -> Any:
        return ng.jvp(along, (x,), (one,))[1]

    slope = ng.grad(lambda x: ng.numpy.sum(along(x)))

    def every(x: Any) -> Any:
        return {"rev": slope(x), "fwd": tangent(x), "rev of rev": ng.grad(lambda x: ng.numpy.sum(slope(x)))(x),
                "fwd of rev": ng.jvp(slope, (x,), (one,))[1], "fwd of fwd": ng.jvp(tangent, (x,), (one,))[1],
                "rev of fwd": ng.grad(lambda x: ng.numpy.sum(tangent(x)))(x)}

    found: Found = ng.jit(every, backend=backend)(columns[argument])
    if backend == "llvm":
        np.testing.assert_array_equal(slope(columns[argument]), found["rev"])  # as without jit
    return found


def expected(name: str, f: Callable[..., Any], point: Point, argument: int, order: int, dtype: str) -> Callable[[float], bool] | None:
    """Whether a number is the derivative there; None where the function has none."""
    low, high = one_sided(f, point, argument, order)
    if dtype == "float32":
        low, high = (math.copysign(INF, v) if abs(v) > 3e38 else v for v in (low, high))
    if math.isnan(low) and math.isnan(high):
        return None
    if any(abs(x) >= NAN_AT_INFINITY.get(name, math.nan) for x in point):
        return math.isnan
    low, high = (high if math.isnan(low) else low), (low if math.isnan(high) else high)
    if close(low, high):
        pole = math.isinf(low) and math.copysign(1, point[argument]) < 0 and not point[argument]  # the pole of -0.0 has another sign
        at_infinity = order == 2 and math.isinf(point[argument])  # 0 · inf, as PyTorch has it
        return lambda v: close(v, low, dtype) or pole and v == -low or at_infinity and math.isnan(v)
    if math.isinf(low) and math.isinf(high):
        return lambda v: not math.isfinite(v)
    kink = KINKS.get(name)
    assert kink is not None and kink.order == order, f"{name}: derivative {order} at {point} is in [{low}, {high}]; write a convention"
    value = kink.value(argument, *point)
    assert min(low, high) - 1e-9 <= value <= max(low, high) + 1e-9, f"{name}: by convention {value} at {point}, but not in [{low}, {high}]"
    return lambda v: close(v, value, dtype)


def check_mixed(name: str, f: Callable[..., Any], theirs: Callable[..., Any], points: Sequence[Point]) -> None:
    """The derivatives by two arguments, forward over reverse and reverse over forward, where they have a limit."""
    columns = [np.array(c) for c in zip(*points)]
    one = np.ones_like(columns[0])
    for i, j in itertools.permutations(range(len(columns)), 2):
        slope = ng.grad(lambda *xs: ng.numpy.sum(f(*xs)), argnums=i)

        def along(y: Any, j: int = j, slope: Callable[..., Any] = slope) -> Any:
            return slope(*columns[:j], y, *columns[j + 1:])

        found = [ng.jvp(along, (columns[j],), (one,))[1],
                 ng.jit(ng.grad(lambda y, along=along: ng.numpy.sum(along(y))), backend="numpy")(columns[j])]
        for k, point in enumerate(points):
            value = mixed(theirs, point, i, j)
            assert math.isnan(value) or all(close(float(v[k]), value) for v in found), (name, point, i, j, value, [v[k] for v in found])


def check(name: str, f: Callable[..., Any], theirs: Callable[..., Any], points: Sequence[Point], dtype: str = "float64") -> None:
    wrong = []
    for argument in range(len(points[0])):
        found = {b: elementwise(f, points, argument, b, dtype) for b in (("llvm", "numpy") if dtype == "float64" else ("llvm",))}
        for order in (1, 2):
            for k, point in enumerate(points):
                right = expected(name, theirs, point, argument, order, dtype)
                for backend, values in found.items() if right else ():
                    wrong += [f"{name} by argument {argument} at {point}, {backend}, {mode}: {values[mode][k]}"
                              for mode in values if ORDER[mode] == order and not right(float(values[mode][k]))]
    assert not wrong, "\n".join(["", *wrong])


def distinct(names: Iterable[str]) -> list[str]:
    """Of several names for one function the first."""
    return list({function(n): n for n in reversed([*names])}.values())[::-1]


def numbers(dtype: str, every: Sequence[float] = NUMBERS) -> list[Point]:
    """float32 is tried where neither squares nor their reciprocals leave its range."""
    return [(x,) for x in every if dtype == "float64" or x == 0 or 1e-8 <= abs(x) <= 1e3 or math.isinf(x)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", distinct(exact.UNARY))
def test_functions_of_one_number(name: str, dtype: str) -> None:
    check(name, function(name), exact.UNARY[name], numbers(dtype), dtype)


@pytest.mark.parametrize("name", distinct(exact.SEVERAL))
def test_functions_of_several_numbers(name: str) -> None:
    check(name, function(name), exact.SEVERAL[name], GRIDS[name])


@pytest.mark.parametrize("name", distinct(exact.SEVERAL))
def test_mixed_derivatives(name: str) -> None:
    check_mixed(name, function(name), exact.SEVERAL[name], GRIDS[name])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_single_numbers(name: str) -> None:
    ours, theirs, points = LOSSES[name]
    check(name, ours, theirs, numbers("float64", points))


def vector(row: Row, backend: str) -> Callable[[np.ndarray, np.ndarray], Found]:
    """All derivatives of Σ w f(x) by each element of x, compiled."""
    def loss(x: Any, w: Any) -> Any:
        return ng.numpy.sum(ng.numpy.ravel(row.ours(x)) * w)

    slope = ng.grad(loss)

    def every(x: Any, w: Any) -> Any:
        def tangent(x: Any, v: Any) -> Any:
            return ng.jvp(lambda x: loss(x, w), (x,), (v,))[1]

        units = np.eye(len(x.shape) and x.shape[0])
        second = ng.jacobian(lambda x: slope(x, w))(x)
        columns = ng.numpy.stack([ng.jvp(lambda x: slope(x, w), (x,), (v,))[1] for v in units])
        return {"rev": slope(x, w), "fwd": ng.numpy.stack([tangent(x, v) for v in units]), "rev of rev": ng.numpy.diagonal(second),
                "fwd of rev": ng.numpy.diagonal(columns), "hessian": second, "hessian by columns": columns,
                "fwd of fwd": ng.numpy.stack([ng.jvp(lambda x, v=v: tangent(x, v), (x,), (v,))[1] for v in units])}

    return ng.jit(every, backend=backend)


@pytest.mark.parametrize("name", ROWS)
def test_functions_of_vectors(name: str) -> None:
    row = ROWS[name]
    compiled = {b: vector(row, b) for b in ("llvm", "numpy")}
    wrong = []
    for point in row.points:
        outputs = _listed(row.exact([exact.mpf(v) for v in point]))
        weights = [w if exact.mp.isfinite(y) else 0.0 for y, w in zip(outputs, (1.0, -2.0, 0.5))]

        def weighted(*xs: Any, weights: Sequence[float] = weights) -> Any:
            return exact.mp.fsum(y * w for y, w in zip(_listed(row.exact(xs)), weights) if w)

        found = {b: f(np.array(point), np.array(weights)) for b, f in compiled.items()}
        for i, order in ((i, order) for i in range(len(point)) for order in (1, 2)):
            low, high = one_sided(weighted, point, i, order)
            if order == 1 and point in row.kinks:
                value = row.kinks[point][i]
                assert min(low, high) - 1e-9 <= value <= max(low, high) + 1e-9, (point, i, value, low, high)
            else:
                assert close(low, high) or math.isnan(low + high), f"{name} at {point}: {low} and {high}; write a convention"
                value = low
            if not math.isnan(value):
                wrong += [f"{name} at {point}, element {i}, {b}, {mode}: {v[mode][i]}, not {value}" for b, v in found.items()
                          for mode in v if ORDER.get(mode) == order and not close(float(v[mode][i]), value)]
        for i, j in itertools.permutations(range(len(point)), 2):
            value = mixed(weighted, point, i, j)
            wrong += [f"{name} at {point}, {b}, {mode} {i} {j}: {v[mode][i, j]}, not {value}" for b, v in found.items()
                      for mode in ("hessian", "hessian by columns") if not math.isnan(value) and not close(float(v[mode][i, j]), value)]
    assert not wrong, "\n".join(["", *wrong])


def _listed(y: Any) -> list[Any]:
    return list(y) if isinstance(y, (list, tuple)) else [y]


def test_logsumexp_of_infinity() -> None:
    """As in PyTorch: the others get zero."""
    x = np.array([INF, 0.0, 1.0])
    np.testing.assert_array_equal(ng.grad(F.logsumexp)(x), [math.nan, 0, 0])
    np.testing.assert_array_equal(ng.grad(F.logsumexp)(-np.abs(x) - INF), [0, 0, 0])


#: Torch's of the functions of vectors whose conventions are theirs; where ours are others, `special_points.py` says so.
PYTORCH = {
    "max": torch.max, "amax": torch.amax, "min": torch.min, "amin": torch.amin, "sort": lambda x: torch.sort(x, stable=True)[0],
    "top_k": lambda x: torch.topk(x, 2)[0], "max_pool": lambda x: torch.max_pool1d(x[None, None], 2, 1), "linalg.norm": torch.linalg.norm,
    "std": lambda x: torch.std(x, correction=0),
}


@pytest.mark.parametrize("name", ROWS)
def test_conventions_are_those_of_pytorch(name: str) -> None:
    for point, value in ROWS[name].kinks.items() if name not in OTHER_THAN_PYTORCH else ():
        x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
        y = PYTORCH[name](x).ravel()
        (y * torch.tensor([1.0, -2.0, 0.5])[:len(y)]).sum().backward()
        np.testing.assert_allclose(x.grad, value)


#: Where a linear function could only go wrong by multiplying with what it is given.
ODD = [(0.0, -0.0, 0.0), (INF, -INF, INF), (math.nan, math.nan, math.nan), (1e300, -1e300, 1e-300)]


@pytest.mark.parametrize("name", LINEAR)
def test_the_derivative_of_a_linear_function_is_the_same_everywhere(name: str) -> None:
    slope = ng.grad(lambda x, f=LINEAR[name]: ng.numpy.sum(f(x)))
    usual = slope(np.array([0.3, 1.7, -2.0]))
    assert np.isfinite(usual).all() and usual.any()
    for point in ODD:
        np.testing.assert_array_equal(slope(np.array(point)), usual)
        np.testing.assert_array_equal(ng.jit(slope, backend="numpy")(np.array(point)), usual)


@pytest.mark.parametrize("name", STEPS)
def test_the_derivative_of_steps_is_zero(name: str) -> None:
    for point in [*ODD, (0.5, 1.0, -2.5)]:
        x = np.array(point)
        assert not ng.grad(lambda x: ng.numpy.sum(STEPS[name](x)))(x).any()
        assert not ng.jvp(STEPS[name], (x,), (np.ones(3),))[1].any()


def _ops(graph: Graph) -> set[str]:
    found = {n.op.name for n in graph.nodes}
    return found.union(*(_ops(g) for n in graph.nodes for g in n.op.regions.values()))


def test_every_differentiable_elementwise_op_is_in_a_row() -> None:
    x = np.array([0.3, 0.7, 0.2])
    functions: list[Any] = [functools.partial(function(n)) for n in (*exact.UNARY, *exact.SEVERAL)]
    counts = [1] * len(exact.UNARY) + [len(GRIDS[n][0]) for n in exact.SEVERAL]
    functions += [*(r.ours for r in ROWS.values()), *LINEAR.values(), *STEPS.values()]
    counts += [1] * (len(functions) - len(counts))
    seen = set().union(*(_ops(ng.trace(f, *[x] * n)) for f, n in zip(functions, counts, strict=True)))
    ops = [op for op in own_ops().values() if issubclass(op, Elementwise) and not op._fields()]
    missing = {op.name for op in ops if DTYPES["f64"] in op.dtypes and is_float(op().result_dtype(DTYPES["f64"]))} - seen
    assert not missing, missing
