"""Functions with derivatives of their own: custom_vjp, checkpoint, composite."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import SignatureError, TracerError, TreeError
from tests.support import differences

RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 4))
V = RNG.normal(size=4)


def doubled():
    """x², with a derivative that says 20 x, so that one sees which was taken."""

    @ng.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, {"x": x, "none": None}), lambda residuals, ct: (20 * residuals["x"] * ct,))
    return f


def test_custom_vjp_is_taken_in_both_modes_and_under_vmap():
    f = doubled()
    np.testing.assert_allclose(f(V), V * V)
    np.testing.assert_allclose(ng.jit(f)(V), V * V)
    for gradient in (ng.grad(lambda x: f(x).sum()), ng.jit(ng.grad(lambda x: f(x).sum())), lambda x: ng.vjp(f, x)[1](np.ones(4))[0],
                     ng.grad(lambda x: ng.jit(f)(x).sum())):
        np.testing.assert_allclose(gradient(V), 20 * V)
    np.testing.assert_allclose(ng.jvp(f, (V,), (np.ones(4),))[1], 20 * V)
    np.testing.assert_allclose(ng.vmap(f)(X), X * X)
    np.testing.assert_allclose(ng.grad(lambda x: ng.vmap(f)(x).sum())(X), 20 * X)
    np.testing.assert_allclose(ng.grad(lambda x: f(x)[:1].sum())(V), 20 * V * (np.arange(4) == 0))  # read in part
    np.testing.assert_allclose(ng.jvp(ng.vmap(f), (X,), (np.ones_like(X),))[1], 20 * X)
    np.testing.assert_allclose(ng.grad(ng.grad(lambda x: f(x)))(3.0), 20.0)


def test_custom_vjp_of_trees_and_integers():
    @ng.custom_vjp
    def f(t, n):
        return t["a"] * n, t["b"]

    f.defvjp(lambda t, n: ((t["a"] * n, t["b"]), n), lambda n, ct: ({"a": ct[0] * n * 100, "b": None}, None))
    g = ng.grad(lambda t: (f(t, np.array(3))[0] + f(t, np.array(3))[1]).sum())({"a": V, "b": V})
    np.testing.assert_allclose(g["a"], np.full(4, 300.0))
    np.testing.assert_allclose(g["b"], np.zeros(4))


def test_custom_vjp_says_what_is_wrong():
    @ng.custom_vjp
    def f(x):
        return x * x

    with pytest.raises(SignatureError, match=r"f has no derivative yet: call .defvjp\(fwd, bwd\)"):
        f(V)
    f.defvjp(lambda x: x * x, lambda r, ct: (ct,))
    with pytest.raises(TreeError, match=r"fwd must return \(result, residuals\)"):
        ng.grad(lambda x: f(x).sum())(V)
    f.defvjp(lambda x: (x * x, x), lambda r, ct: (ct, ct))
    with pytest.raises(TreeError, match="bwd must return a cotangent for each of 1 argument leaves, got 2"):
        ng.grad(lambda x: f(x).sum())(V)
    f.defvjp(lambda x: (x * x, x), lambda r, ct: (ct[:2],))
    with pytest.raises(SignatureError, match="shape of its value, f64.4., got f64.2."):
        ng.grad(lambda x: f(x).sum())(V)
    with pytest.raises(SignatureError, match="positional"):
        f(x=V)
    f.defvjp(lambda x: (x * x, x), lambda r, ct: (ct,))
    with pytest.raises(TracerError, match="pass them as arguments"):
        ng.jit(lambda y: _closing_over(y)(V))(V)


def _closing_over(y):
    f = ng.custom_vjp(lambda x: x * y)
    f.defvjp(lambda x: (x * y, x), lambda r, ct: (ct,))
    return f


def count(graph, name):
    """How many nodes of this op there are, regions included."""
    inside = sum(count(r, name) for node in graph.nodes for r in node.op.regions.values())
    return inside + sum(node.op.name == name for node in graph.nodes)


def test_checkpoint_keeps_nothing_but_its_inputs():
    def block(x):
        return np.tanh(np.sin(x @ np.eye(4)) * 2)

    def loss(f):
        return lambda x: (f(x) ** 2).sum()

    kept, again = (ng.trace(ng.grad(loss(f)), X) for f in (block, ng.checkpoint(block)))
    assert count(kept, "sin") == 1
    assert count(again, "sin") == 2, "once forward, once when it is recomputed"
    np.testing.assert_allclose(ng.grad(loss(ng.checkpoint(block)))(X), ng.grad(loss(block))(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jit(ng.checkpoint(block))(X), block(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jvp(ng.checkpoint(block), (X,), (X,))[1], ng.jvp(block, (X,), (X,))[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.vmap(ng.checkpoint(block))(X[None]), block(X)[None], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.hessian(lambda x: ng.checkpoint(np.tanh)(x).sum())(V), np.diag(-2 * np.tanh(V) * (1 - np.tanh(V) ** 2)))


def test_checkpoint_lowers_the_memory_of_a_deep_stack():
    def loss(x, wrap):
        for _ in range(8):
            x = wrap(lambda y: np.tanh(np.sin(np.cos(np.tanh(y)))))(x)
        return x.sum()

    big = np.zeros((64, 64), np.float32)
    gradients = [ng.grad(lambda x, w=w: loss(x, w)) for w in (lambda f: f, ng.checkpoint)]
    arena = [ng.jit(gradient, backend="numpy").lower(big).executable.memory.arena_bytes for gradient in gradients]
    assert arena[1] < arena[0]


def test_composite_is_one_node_with_a_name():
    @ng.composite
    def swish(x):
        return x / (1 + np.exp(-x))

    graph = ng.trace(lambda x: swish(x) * 2, V)
    assert [n.op.name for n in graph.nodes][0] == "call" and "swish" in str(graph)
    np.testing.assert_allclose(ng.jit(lambda x: swish(x))(V), V / (1 + np.exp(-V)))
    np.testing.assert_allclose(ng.grad(lambda x: swish(x).sum())(V), differences(lambda x: (x / (1 + np.exp(-x))).sum(), V), rtol=1e-6)
