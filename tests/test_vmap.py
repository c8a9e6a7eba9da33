"""vmap against loops: over axes, trees and keys, and inside of other transforms and around them."""

from collections import namedtuple

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import SignatureError

RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 4))
V = RNG.normal(size=4)
W = RNG.normal(size=(4, 2))
Point = namedtuple("Point", "x y")


FUNCTIONS = {
    "scalar": lambda x: np.tanh(x).sum(), "matmul": lambda x: x @ W, "indexing": lambda x: x[::-1] * x[0],
    "reduce": lambda x: x - x.max(axis=0),
    "sort": lambda x: np.sort(x), "constant": lambda x: np.ones(3) + 0 * x[0], "where": lambda x: np.where(x > 0, x, -1),
    "cumsum": lambda x: np.cumsum(x), "gather": lambda x: x[np.argmax(x)], "outer": lambda x: np.outer(x, x),
    "concatenate": lambda x: np.concatenate([x, V]), "einsum": lambda x: np.einsum("i,ij->j", x, W),
    "scan": lambda x: ng.scan(lambda c, r: (c + r, c * r), 0.0, x)[1],
    "cond": lambda x: ng.cond(x[0] > 0, np.sin, lambda y: y * 2, x),
    "while": lambda x: ng.while_loop(lambda c: c.sum() < 50, lambda c: c * 2 + 1, np.abs(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_against_a_loop(name):
    f = FUNCTIONS[name]
    expected = np.stack([ng.jit(f)(row) for row in X])
    for mapped in (ng.vmap(f), ng.jit(ng.vmap(f)), ng.vmap(ng.jit(f)), lambda x: ng.vmap(f, in_axes=1)(np.asarray(x).T)):
        np.testing.assert_allclose(mapped(X), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ng.vmap(ng.vmap(f))(np.stack([X, X])), np.stack([expected, expected]), rtol=1e-12, atol=1e-14)


def test_vmap_axes():
    def f(x, y):
        return x @ y

    np.testing.assert_allclose(ng.vmap(f, in_axes=(0, None))(X, V), X @ V)
    np.testing.assert_allclose(ng.vmap(f, in_axes=(None, 1))(V, W), V @ W)
    np.testing.assert_allclose(ng.vmap(f, in_axes=(-2, None))(X, V), X @ V)
    np.testing.assert_allclose(ng.vmap(lambda x: x * 2, out_axes=1)(X), X.T * 2)
    np.testing.assert_allclose(ng.vmap(lambda x: x * 2, in_axes=1, out_axes=-1)(X), X * 2)
    out = ng.vmap(lambda t, k: {"a": t["x"] * k, "b": t["y"]}, in_axes=({"x": 0, "y": None}, 0))({"x": X, "y": V}, np.arange(3.0))
    np.testing.assert_allclose(out["a"], X * np.arange(3.0)[:, None])
    np.testing.assert_allclose(out["b"], np.broadcast_to(V, (3, 4)))
    np.testing.assert_allclose(ng.vmap(lambda p: p.x + p.y)(Point(X, X)), 2 * X)
    with pytest.raises(SignatureError, match="common size, got none"):
        ng.vmap(f, in_axes=None)(V, V)
    with pytest.raises(SignatureError, match="does not fit an argument of 2 leaves"):
        ng.vmap(lambda t: t[0], in_axes=((0, 0, 0),))((X, X))


def test_vmap_and_grad_inside_one_another():
    def loss(w, x):
        return np.tanh(x @ w).sum()

    each = ng.vmap(ng.grad(loss), in_axes=(None, 0))(W, X)
    np.testing.assert_allclose(each, np.stack([ng.grad(loss)(W, x) for x in X]), rtol=1e-12, atol=1e-12)
    total = ng.grad(lambda w: ng.vmap(loss, in_axes=(None, 0))(w, X).sum())(W)
    np.testing.assert_allclose(total, each.sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jacobian(lambda w: ng.vmap(loss, in_axes=(None, 0))(w, X))(W), each, rtol=1e-12, atol=1e-12)
    hessians = ng.jit(ng.vmap(ng.hessian(lambda x: np.sin(x).prod())))(X)
    np.testing.assert_allclose(hessians, np.stack([ng.hessian(lambda x: np.sin(x).prod())(x) for x in X]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.vmap(lambda x: ng.jvp(np.sin, (x,), (x,))[1])(X), np.cos(X) * X, rtol=1e-12, atol=1e-12)


def test_vmap_of_random_keys():
    keys = ng.random.split(ng.random.key(0), 5)
    draws = ng.vmap(lambda k: ng.random.uniform(k, (3,)))(keys)
    np.testing.assert_array_equal(draws, np.stack([ng.random.uniform(k, (3,)) for k in keys]))
    draws = ng.vmap(lambda k: ng.random.normal(k, (3,)))(keys)  # by elementary functions, which differ in the last bit
    np.testing.assert_allclose(draws, np.stack([ng.random.normal(k, (3,)) for k in keys]), rtol=1e-5, atol=1e-6)
