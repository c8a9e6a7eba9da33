"""Branches and loops under vmap: what an example does not take changes neither its values nor any derivative."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng

#: Branches for x > 0 whose values, slopes or curvatures at other x are nan or infinite; w is not mapped.
UNSAFE = {
    "sqrt": lambda w, x: np.sqrt(w * x),
    "log": lambda w, x: w * np.log(x),
    "reciprocal": lambda w, x: w / x,
    "power": lambda w, x: x ** (w + 0.3),
    "arccosh": lambda w, x: np.arccosh(w * x + 1),
    "exp of a large number": lambda w, x: np.exp(-1e3 * w * x),
    "a product": lambda w, x: np.sum((np.log(x) * np.ones((2, 3))) @ (w * np.ones((3, 2)))),
    "a branch inside": lambda w, x: ng.cond(x > 2, lambda: np.sqrt(x - 2) * w, lambda: np.log(x)),
    "a loop": lambda w, x: ng.scan(lambda c, t: (np.sqrt(c) * w, None), x, np.arange(3.0))[0],
    "a bounded loop": lambda w, x: ng.while_loop(lambda c: c > 1, lambda c: np.sqrt(c - 0.5) * w, x, max_steps=4),
}
#: Examples that take the branch: some, none, all; a first that does not; one; 0 and infinities among those that do not.
ROWS = {"some": [0.7, -1.0, 0.0, 3.0, -np.inf, -0.0], "none": [-1.0, 0.0, -2.0], "all": [0.5, 2.5, 3.0], "not the first": [-1.0, 1.5],
        "one": [-1.0]}
W = 1.3


def single(branch):
    return lambda w, x: ng.cond(x > 0, lambda: branch(w, x), lambda: 0.5 * w * w)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", UNSAFE)
def test_derivatives_are_those_of_a_loop_over_the_examples(name, rows):
    f, xs = single(UNSAFE[name]), np.array(ROWS[rows])

    def total(w, xs):
        return ng.vmap(lambda x: f(w, x))(xs).sum()

    one = [ng.jit(f)(W, x) for x in xs]
    first = [ng.jit(ng.grad(f, argnums=(0, 1)))(W, x) for x in xs]
    np.testing.assert_allclose(ng.vmap(lambda x: f(W, x))(xs), one, rtol=1e-12)
    expected_w, expected_x = sum(g[0] for g in first), np.array([g[1] for g in first])
    for found in (ng.grad(total, argnums=(0, 1))(W, xs), ng.jit(ng.grad(total, argnums=(0, 1)), backend="numpy")(W, xs)):
        np.testing.assert_allclose(found[0], expected_w, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[1], expected_x, rtol=1e-9, atol=1e-12)
    moved = ng.jvp(lambda w, x: ng.vmap(lambda x: f(w, x))(x), (W, xs), (1.0, np.ones_like(xs)))[1]
    np.testing.assert_allclose(moved, [a + b for a, b in first], rtol=1e-9, atol=1e-12)
    each = ng.vmap(ng.grad(lambda x, w: f(w, x)), in_axes=(0, None))(xs, W)
    np.testing.assert_allclose(each, expected_x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", UNSAFE)
def test_second_derivatives_are_those_of_a_loop_over_the_examples(name):
    f, xs = single(UNSAFE[name]), np.array(ROWS["some"])

    def total(p):
        return ng.vmap(lambda x: f(p[0], x))(p[1:]).sum()

    found = ng.hessian(total)(np.concatenate([[W], xs]))
    each = [ng.hessian(lambda p: f(p[0], p[1]))(np.array([W, x])) for x in xs]
    expected = np.zeros_like(found)
    for i, h in enumerate(each, 1):
        expected[np.ix_([0, i], [0, i])] += h
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_branches_of_mapped_rows_in_rows():
    xs = np.array([[4.0, -1.0, 0.0], [-3.0, -2.0, -np.inf], [0.25, 1.0, 9.0]])

    def f(x):
        return ng.cond(x > 0, np.sqrt, lambda x: 0 * np.minimum(0, np.maximum(x, -1)), x)

    with np.errstate(all="ignore"):
        expected = np.where(xs > 0, 0.5 / np.sqrt(np.maximum(xs, 0)), 0)
    np.testing.assert_allclose(ng.grad(lambda x: ng.vmap(ng.vmap(f))(x).sum())(xs), expected)
    np.testing.assert_allclose(ng.vmap(ng.grad(lambda r: ng.vmap(f)(r).sum()))(xs), expected)


def newton(a):
    """√a for a > 0, else as it is; a step past the last would divide by 0 where a is 0."""
    return ng.while_loop(lambda c: (abs(c * c - a) > 1e-12) & (c > 0), lambda c: (c + a / c) / 2, a, max_steps=30)


@pytest.mark.parametrize("rows", [[0.0, 2.0, 9.0, 1.0, -3.0], [0.0, 0.0], [1e4, 0.5]])
def test_examples_that_are_done_send_nothing_back(rows):
    xs = np.array(rows)
    expected = [ng.grad(newton)(a) for a in xs]
    np.testing.assert_allclose(ng.grad(lambda a: ng.vmap(newton)(a).sum())(xs), expected, rtol=1e-9)
    np.testing.assert_allclose(ng.jit(ng.grad(lambda a: ng.vmap(newton)(a).sum()), backend="numpy")(xs), expected, rtol=1e-9)
    np.testing.assert_allclose(ng.vmap(ng.grad(newton))(xs), expected, rtol=1e-9)


def test_loops_of_other_examples_without_end_do_not_run():
    def down(x):
        return ng.cond(x > 0, lambda x: ng.while_loop(lambda c: c != 0, lambda c: c - 1, x), lambda x: x, x)

    np.testing.assert_array_equal(ng.vmap(down)(np.array([3.0, -0.5])), [0, -0.5])
    np.testing.assert_array_equal(ng.vmap(down)(np.array([-3.0, -0.5])), [-3, -0.5])
    np.testing.assert_array_equal(ng.vmap(ng.vmap(down))(np.array([[-3.0, -0.5], [2.0, -0.5]])), [[-3, -0.5], [0, -0.5]])


@pytest.mark.parametrize("size", (0, 1, 3, 65))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_sizes(size, dtype):
    xs = np.linspace(-2, 2, size).astype(dtype)
    found = ng.grad(lambda x: ng.vmap(lambda x: ng.cond(x > 0, np.log, lambda x: x, x))(x).sum())(xs)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, np.where(xs > 0, 1 / xs, 1), rtol=1e-6)
    assert found.dtype == dtype
