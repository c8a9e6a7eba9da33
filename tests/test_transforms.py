"""grad, vjp, jvp, vmap and what is made of them: closed forms, central differences, and each against the others."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph.errors import MissingRuleError, NagraphError, SignatureError, TracerError, TreeError

RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 4))
V = RNG.normal(size=4)
W = RNG.normal(size=(4, 2))
Point = namedtuple("Point", "x y")


def differences(f, x, step=1e-6):
    """The gradient of a scalar function by central differences."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        found[i] = (f(x + d) - f(x - d)) / (2 * step)
    return found


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


# -- vmap -------------------------------------------------------------------------------------------


def looped(f, *rows):
    return np.stack([f(*r) for r in zip(*rows)])


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


# -- custom_vjp, checkpoint, composite --------------------------------------------------------------


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
