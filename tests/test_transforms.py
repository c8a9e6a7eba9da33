"""grad, vjp, jvp and what is made of them: closed forms, central differences, and each against the others."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.errors import MissingRuleError, NagraphError, SignatureError, TreeError
from tests.support import differences

RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 4))
V = RNG.normal(size=4)
W = RNG.normal(size=(4, 2))
Point = namedtuple("Point", "x y")


def softmax_loss(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return -np.log(p[..., 0] / p.sum(axis=-1)).mean()


def sorted_loss(x):
    return (np.sort(x, axis=-1) * np.arange(4.0)).sum()


LOSSES = {
    "polynomial": lambda x: (x**3 - 2 * x).sum(), "matmul": lambda x: np.tanh(x @ W).sum(), "softmax": softmax_loss,
    "norm": lambda x: np.linalg.norm(x), "where": lambda x: np.where(x > 0, x**2, np.sin(x)).sum(), "max": lambda x: x.max(axis=0).sum(),
    
    "var": lambda x: x.var(axis=1).sum() + x.std(), "indexing": lambda x: (x[1:, ::-1] * x[:-1]).sum() + x[0, np.array([1, 1])].prod(),
    "concatenate": lambda x: (np.concatenate([x, x * 2], axis=1) ** 2).sum(), "sort": sorted_loss,
    "cumsum": lambda x: (x.cumsum(1) ** 2).sum(),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, np.sin(x)).sum(), "clip": lambda x: np.clip(x, -0.5, 0.5).sum(),
    "prod": lambda x: x[0].prod(),
    "set_at": lambda x: (ng.numpy.set_at(x, 1, x[0] ** 2) * X).sum(), "add_at": lambda x: (ng.numpy.add_at(x, (0, 1), x[1, 1]) ** 3).sum(),
    "pad": lambda x: (np.pad(x, 1, mode="reflect") ** 2).sum(), "same value twice": lambda x: (x * x + x).sum(),
    "none of it": lambda x: np.sum(x * 0 + 1.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_against_differences(name):
    loss = LOSSES[name]
    expected = differences(loss, X)
    for gradient in (ng.grad(loss), ng.jit(ng.grad(loss)), ng.grad(ng.jit(loss)), lambda x: ng.vjp(loss, x)[1](1.0)[0],
                     lambda x: ng.jacobian(loss)(x)):
        np.testing.assert_allclose(gradient(X), expected, rtol=1e-5, atol=1e-7)
    direction = RNG.normal(size=X.shape)
    value, moved = ng.jvp(loss, (X,), (direction,))
    np.testing.assert_allclose(moved, (expected * direction).sum(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, loss(X), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["sin", "tanh", "square", "exp", "sum", "scale", "twist"]), min_size=1, max_size=6), st.integers(0, 9))
def test_reverse_and_forward_agree_on_any_chain(names, seed):
    steps = {"sin": np.sin, "tanh": np.tanh, "square": lambda x: x * x / 4, "exp": lambda x: np.exp(-x * x), "sum": lambda x: x - x.sum(),
             "scale": lambda x: 1.5 * x, "twist": lambda x: x[::-1] * x}

    def fn(x):
        for n in names:
            x = steps[n](x)
        return x

    rng = np.random.default_rng(seed)
    x, t, ct = rng.normal(size=(3, 5))
    value, moved = ng.jvp(fn, (x,), (t,))
    same, pull = ng.vjp(fn, x)
    np.testing.assert_array_equal(value, same)
    np.testing.assert_allclose(ct @ moved, pull(ct)[0] @ t, rtol=1e-9, atol=1e-9)


# -- arguments and results --------------------------------------------------------------------------


def test_argnums():
    def f(x, y, z):
        return (x * y * y).sum() + z

    x, y, z = V, V + 1, np.float64(3)
    np.testing.assert_allclose(ng.grad(f, argnums=1)(x, y, z), 2 * x * y)
    a, c = ng.grad(f, argnums=(0, 2))(x, y, z)
    np.testing.assert_allclose(a, y * y)
    assert c == 1
    c, a = ng.grad(f, argnums=(2, 0))(x, y, z)
    np.testing.assert_allclose(a, y * y)
    np.testing.assert_allclose(ng.grad(f, argnums=-2)(x, y, z), 2 * x * y)
    value, (a,) = ng.value_and_grad(f, argnums=(0,))(x, y, z=z)
    np.testing.assert_allclose(value, f(x, y, z))
    np.testing.assert_allclose(a, y * y)


def test_has_aux():
    def f(x):
        return (x * x).sum(), {"twice": 2 * x, "count": x.shape[0], "none": None}

    (value, aux), gradient = ng.value_and_grad(f, has_aux=True)(V)
    np.testing.assert_allclose(value, V @ V)
    np.testing.assert_allclose(gradient, 2 * V)
    np.testing.assert_allclose(aux["twice"], 2 * V)
    assert aux["count"] == 4 and aux["none"] is None
    gradient, aux = ng.grad(f, has_aux=True)(V)
    np.testing.assert_allclose(gradient, 2 * V)
    np.testing.assert_allclose(aux["twice"], 2 * V)
    with pytest.raises(SignatureError, match=r"has_aux=True the function returns \(loss, aux\)"):
        ng.grad(lambda x: x.sum(), has_aux=True)(V)


@dataclasses.dataclass(frozen=True)
class Layer:
    w: object
    b: object
    name: str = "layer"
    scale: float = 2.0


class Affine(ng.nn.Module):
    w: object
    seen: object = ng.nn.buffer()
    steps: int = 3


def tree_loss(t):
    layer, point, (a, b), last = t["layer"], t["point"], t["list"], t["last"]
    return (np.tanh(point.x @ layer.w + layer.b) * layer.scale).sum() * point.y + (a * b).sum() + (0 if last is None else last)


TREE = {"layer": Layer(W, np.ones(2)), "point": Point(V, np.float64(0.5)), "list": [V, V + 1], "last": None}


def test_gradients_have_the_structure_of_the_argument():
    value, g = ng.value_and_grad(tree_loss)(TREE)
    np.testing.assert_allclose(value, tree_loss(TREE))
    assert ng.tree.structure(g) == ng.tree.structure(TREE)
    assert type(g["layer"]) is Layer and g["layer"].name == "layer" and type(g["point"]) is Point and g["last"] is None
    np.testing.assert_allclose(g["list"][0], V + 1)
    np.testing.assert_allclose(g["layer"].w, differences(lambda w: tree_loss(TREE | {"layer": Layer(w, np.ones(2))}), W), rtol=1e-6)
    np.testing.assert_allclose(g["point"].y, (np.tanh(V @ W + 1) * 2).sum())


def test_gradients_of_a_module_leave_buffers_and_integers_out():
    model = Affine(W, np.ones(2))

    def loss(model, x, flags):
        return ((x @ model.w) * model.seen).sum() * model.steps

    g = ng.grad(loss)(model, V, {"flag": np.array(True)})
    assert type(g) is Affine and g.seen is None and g.steps == 3
    np.testing.assert_allclose(g.w, 3 * np.outer(V, np.ones(2)))
    g = ng.grad(lambda t: (t["x"] * t["n"]).sum())({"x": V, "n": np.arange(4), "b": np.array(True)})
    assert g["n"] is None and g["b"] is None
    np.testing.assert_allclose(g["x"], np.arange(4))


def test_gradient_of_what_the_loss_does_not_use_is_zero():
    g = ng.grad(lambda t: t[0].sum())([V, W])
    np.testing.assert_array_equal(g[1], np.zeros_like(W))
    np.testing.assert_array_equal(ng.grad(lambda x: np.floor(x).sum())(V), np.zeros(4))


def test_dtypes_of_gradients_are_those_of_the_arguments():
    for dtype in (np.float16, np.float32, np.float64, ng.bfloat16):
        g = ng.grad(lambda x: np.tanh(x).sum().astype(np.float32))(V.astype(dtype))
        assert g.dtype == dtype
    assert ng.grad(lambda x: x * 3)(2.0) == 3.0


def test_keyword_arguments():
    np.testing.assert_allclose(ng.grad(lambda x, *, k: (x * k).sum())(V, k=V + 1), V + 1)


def test_a_graph_has_a_graph_as_gradient():
    graph = ng.trace(lambda x, w: np.tanh(x @ w).sum(), X, W)
    for argnums, where in ((0, [X]), (1, [W]), ((0, 1), [X, W])):
        gradient = ng.grad(graph, argnums)
        assert isinstance(gradient, ng.Graph)
        assert ng.parse(str(gradient)) == gradient
        found = ng.compile(gradient)(X, W)
        expected = ng.grad(lambda x, w: np.tanh(x @ w).sum(), argnums)(X, W)
        for a, b, like in zip(found, expected if isinstance(argnums, tuple) else [expected], where, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
            assert a.shape == like.shape
    with pytest.raises(SignatureError, match=r"one floating scalar output, it has \(f64\[3,4\]\)"):
        ng.grad(ng.trace(np.tanh, X))


# -- higher derivatives -----------------------------------------------------------------------------


def test_third_derivatives():
    x = np.float64(0.7)
    t = np.tanh(x)
    third = ng.grad(ng.grad(ng.grad(np.tanh)))
    np.testing.assert_allclose(third(x), (1 - t * t) * (6 * t * t - 2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jit(third)(x), (1 - t * t) * (6 * t * t - 2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.grad(ng.grad(ng.grad(np.sin)))(x), -np.cos(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("f,derivatives", [
    (np.exp, [np.exp] * 4), (np.sin, [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]),
    (np.log, [lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, lambda x: -6 / x**4]),
    (lambda x: x**4, [lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x, lambda x: 24]),
    (np.sqrt, [lambda x: x**-0.5 / 2, lambda x: -(x**-1.5) / 4, lambda x: 3 * x**-2.5 / 8, lambda x: -15 * x**-3.5 / 16]),
])
def test_derivatives_up_to_the_fourth_in_every_mixture_of_modes(f, derivatives):
    x = np.float64(1.3)

    def forward(g):
        return lambda y: ng.jvp(g, (y,), (1.0,))[1]

    reverse = mixed = ahead = f
    for n, expected in enumerate(derivatives):
        reverse, ahead = ng.grad(reverse), forward(ahead)
        mixed = forward(mixed) if n % 2 else ng.grad(mixed)
        for g in (reverse, ahead, mixed):
            np.testing.assert_allclose(g(x), expected(x), rtol=1e-10, atol=1e-10)


def test_jacobian_hessian_and_products():
    def f(x):
        return np.stack([x[0] * x[1], np.sin(x[2]), x[3] ** 2 * x[0]])

    a, b, c, d = V
    expected = np.array([[b, a, 0, 0], [0, 0, np.cos(c), 0], [d * d, 0, 0, 2 * a * d]])
    np.testing.assert_allclose(ng.jacobian(f)(V), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jit(ng.jacobian(f))(V), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jacobian(lambda y, x: f(x) * y, argnums=1)(2.0, V), 2 * expected, rtol=1e-12, atol=1e-12)
    assert ng.jacobian(lambda x: x @ W)(X).shape == (3, 2, 3, 4)

    def loss(x):
        return np.exp(-(x * x).sum()) + x[0] * x[1] ** 2

    e = np.exp(-(V @ V))
    expected = e * (4 * np.outer(V, V) - 2 * np.eye(4))
    expected[0, 1] += 2 * b
    expected[1, 0] += 2 * b
    expected[1, 1] += 2 * a
    np.testing.assert_allclose(ng.hessian(loss)(V), expected, rtol=1e-10, atol=1e-12)
    v = RNG.normal(size=4)
    np.testing.assert_allclose(ng.hvp(loss, V, v), expected @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ng.jit(lambda x, v: ng.hvp(loss, x, v))(V, v), expected @ v, rtol=1e-10, atol=1e-10)


def test_jit_and_grad_inside_one_another():
    inner = ng.jit(lambda x: np.tanh(x) * x)

    def f(x):
        return ng.grad(lambda y: inner(y).sum())(x) @ inner(x)

    def plain(x):
        t = np.tanh(x)
        return (t + x * (1 - t * t)) @ (t * x)

    for g in (f, ng.jit(f)):
        np.testing.assert_allclose(g(V), plain(V), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.jit(ng.grad(ng.jit(f)))(V), differences(plain, V), rtol=1e-6)
    assert ng.jit(f).cache_info().size == 0 and inner.cache_info().misses == 1  # inside a trace, jit inlines


def test_a_derivative_inside_of_a_derivative_knows_whose_variable_is_whose():
    """d/dx (x · d/dy (x + y)) is 1, not 2: perturbations are not confused."""
    for inner in (lambda g, y: ng.grad(g)(y), lambda g, y: ng.jvp(g, (y,), (1.0,))[1]):
        for outer in (ng.grad, lambda f: lambda x: ng.jvp(f, (x,), (1.0,))[1]):
            assert outer(lambda x, inner=inner: x * inner(lambda y: x + y, 1.0))(1.0) == 1.0


def test_stop_gradient():
    np.testing.assert_allclose(ng.grad(lambda x: (ng.stop_gradient(x) * x).sum())(V), V)
    np.testing.assert_array_equal(ng.stop_gradient(V), V)
    np.testing.assert_array_equal(ng.jvp(lambda x: ng.stop_gradient({"a": x * 2}), (V,), (V,))[1]["a"], np.zeros(4))


# -- vjp, jvp ---------------------------------------------------------------------------------------


def test_vjp_gives_a_tuple_for_trees_of_arguments_and_results():
    def f(t, n, y):
        return {"a": t["x"] * y, "b": (t["x"].sum(), n)}

    value, pull = ng.vjp(f, {"x": V, "k": None}, np.arange(3), np.float64(2))
    np.testing.assert_allclose(value["a"], 2 * V)
    t, n, y = pull({"a": np.ones(4), "b": (np.float64(10), np.zeros(3))})
    np.testing.assert_allclose(t["x"], np.full(4, 12.0))
    assert t["k"] is None and n is None
    np.testing.assert_allclose(y, V.sum())
    with pytest.raises(TreeError, match="structure of the result"):
        pull(V)


def test_jvp_takes_none_and_integers_as_not_moving():
    value, moved = ng.jvp(lambda x, n, y: (x * n + y, n), (V, np.arange(4), V), (V, None, None))
    np.testing.assert_allclose(moved[0], V * np.arange(4))
    np.testing.assert_array_equal(value[1], np.arange(4))
    assert np.all(moved[1] == 0)


# -- shapes without numbers, transforms outside of jit ----------------------------------------------


def test_eval_shape_computes_nothing():
    def f(t, n):
        return {"y": t["x"] @ W.astype(np.float32), "n": n, "none": None}

    found = ng.eval_shape(f, {"x": ng.spec((10**9, 4))}, np.array(3))
    assert found == {"y": ng.spec((10**9, 2)), "n": ng.spec((), "i64"), "none": None}
    assert ng.eval_shape(lambda: np.float32(1)) == ng.spec(())
    assert ng.eval_shape(ng.grad(lambda x: x.sum()), V) == ng.spec(4, "f64")


def test_transforms_outside_of_jit_are_traced_once_a_call():
    calls = []

    def f(x):
        calls.append(x.shape)
        return (x * x).sum()

    gradient = ng.grad(f)
    for _ in range(3):
        gradient(V)
    gradient(X)
    assert calls == [(4,), (4,), (4,), (3, 4)]
    for transformed in (lambda: ng.vmap(f)(X), lambda: ng.jvp(f, (V,), (V,)), lambda: ng.vjp(f, V)[1](1.0), lambda: ng.hvp(f, V, V),
                        lambda: ng.hessian(f)(V), lambda: ng.jacobian(f)(V)):
        calls.clear()
        transformed()
        assert len(calls) == 1


def test_a_changed_closure_is_not_mistaken_for_the_old_one():
    for k in range(3):
        def f(x, k=k):
            return (x * k).sum()

        assert ng.grad(f)(np.ones(())) == k
        assert ng.jvp(f, (1.0,), (1.0,))[1] == k
        g = ng.jit(f)
        assert ng.grad(g)(1.0) == k
    factor = 1.0

    def scaled(x):
        return (lambda y: y * factor)(x)

    for factor in (2.0, 3.0):
        assert ng.grad(scaled)(1.0) == ng.jvp(scaled, (1.0,), (1.0,))[1] == ng.vmap(scaled)(np.ones(1)) == factor


@pytest.mark.parametrize("transform", [ng.grad, ng.value_and_grad, ng.vmap, ng.jacobian, ng.hessian, ng.checkpoint, ng.composite, ng.jit])
def test_errors_about_arguments_name_the_function_and_the_argument(transform):
    def predict(weights, *, scale):
        return (weights["a"] * scale).sum()

    with pytest.raises(SignatureError, match=r"predict: argument weights\.a: str is no array.*\(test_transforms.py:\d+\)"):
        transform(predict)({"a": "text"}, scale=2)
    with pytest.raises(SignatureError, match="predict: .*scale"):
        transform(predict)({"a": V})


def test_results_of_transforms_are_plain_arrays():
    value, g = ng.value_and_grad(lambda x: (x * x).sum())(V)
    assert type(g) is np.ndarray and isinstance(value, (np.ndarray, np.generic))
    assert g.flags.writeable and g.flags.owndata


def test_missing_rules_are_errors_of_their_own():
    assert issubclass(MissingRuleError, NagraphError) and issubclass(MissingRuleError, NotImplementedError)


def coupling(x):
    """A RealNVP layer: one half scales and shifts the other."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([b * np.exp(np.tanh(a)) + a, a], axis=-1)


def test_cotangents_of_parts_side_by_side_are_joined_not_added():
    graph = ng.trace(ng.grad(lambda x: np.sum(coupling(x))), ng.spec((3, 4), "f64"))
    read = {v for n in ng.Pipeline.parse("dce")(graph).nodes for v in n.operands}
    made = [n.op.name for n in graph.nodes if n.results[0] in read or n.results[0] in graph.outputs]
    assert "concatenate" in made and made.count("pad") == 1


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("width", [2, 4, 6])
def test_jacobian_of_a_coupling_layer_under_vmap(backend, width):
    x = np.random.default_rng(0).normal(size=(3, width))
    got = ng.jit(ng.vmap(ng.jacobian(coupling)), backend=backend)(x)
    for k in range(width):
        step = 1e-6 * np.eye(width)[k]
        numeric = (ng.jit(coupling)(x + step) - ng.jit(coupling)(x - step)) / 2e-6
        np.testing.assert_allclose(got[:, :, k], numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shapes", [((1, 2), (3, 2)), ((2,), (3, 2)), ((3, 2), (1, 3)), ((3, 0), (3, 4)), ((3, 2), (3, 2))])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_paddings_that_broadcast_are_added(backend, shapes):
    arrays = [np.random.default_rng(1).normal(size=s) for s in shapes]

    def body(a, b):
        rank, n = len(b.shape), a.shape[-1] + b.shape[-1]
        left = np.pad(a, ((0, 0),) * (len(a.shape) - 1) + ((0, n - a.shape[-1]),))
        return left + np.pad(b, ((0, 0),) * (rank - 1) + ((n - b.shape[-1], 0),))

    np.testing.assert_array_equal(ng.jit(body, backend=backend)(*arrays), body(*arrays))
