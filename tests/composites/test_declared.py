"""A declared derivative is the derivative of the expansion: the composite's body, differentiated op by op in float64."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.nn import functional as F
from nagraph.passes.expand import Expand
from nagraph.regions.calls import Call
from nagraph.transforms.batching import batch_graph
from nagraph.transforms.forward import jvp_graph
from nagraph.transforms.reverse import vjp_graph

rng = np.random.default_rng(11)
X, W, B = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=5)
IMAGES = 2 + rng.normal(size=(2, 5, 3, 4))
Q, KV = rng.normal(size=(2, 4, 3, 6)), rng.normal(size=(2, 2, 5, 6))
LABELS = np.array([0, 4, 2])
MASK = np.where(rng.uniform(size=(3, 5)) < 0.6, 0.0, -np.inf)
MASK[1] = -np.inf  # a row that may look at nothing
ALLOWED = np.isfinite(MASK)

CASES = {
    "softmax": (F.softmax, X),
    "softmax of masked rows": (lambda x: F.softmax(x + MASK), X),
    "log_softmax": (F.log_softmax, X),
    "logsumexp": (lambda x: F.logsumexp(x, axis=-1), X),
    "logsumexp of masked rows": (lambda x: F.logsumexp(x + MASK, axis=-1), X),
    "layer_norm": (F.layer_norm, X, W, B),
    "layer_norm, scaled alone": (F.layer_norm, X, W),
    "layer_norm, shifted alone": (lambda x, b: F.layer_norm(x, None, b), X, B),
    "rms_norm": (F.rms_norm, X, W),
    "batch_norm_training": (F.batch_norm_training, IMAGES, W, B),
    "batch_norm_training of rows, shifted alone": (lambda x, b: F.batch_norm_training(x, None, b), X, B),
    "batch_norm_training, plain": (F.batch_norm_training, IMAGES),
    "gelu": (F.gelu, 3 * X),
    "gelu_tanh": (F.gelu_tanh, 3 * X),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), X),
    "cross_entropy, smoothed": (lambda x: F.cross_entropy(x, LABELS, smoothing=0.1), X),
    "attention": (F.attention, Q[:, :2, :, :], KV, KV + 1),
    "attention, grouped and causal": (lambda q, k, v: F.attention(q, k, v, causal=True), np.concatenate([Q, Q], 2)[:, :, :5], KV, KV + 1),
    "attention under an added mask": (lambda q, k, v: F.attention(q, k, v, MASK), Q[:, :2], KV, KV + 1),
    "attention under a mask of bools": (lambda q, k, v: F.attention(q, k, v, ALLOWED), Q[:, :2], KV, KV + 1),
    "attention, mask differentiated": (lambda q, m: F.attention(q, KV, KV, m), Q[:, :2], rng.normal(size=(3, 5))),
}


def has_declared(graph):
    return any(isinstance(n.op, Call) and n.op.fwd is not None for n in graph.nodes)


@pytest.mark.parametrize("name", CASES)
def test_declared_is_that_of_the_expansion(name):
    fn, *arrays = CASES[name]
    graph = ng.trace(fn, *arrays)
    body = Expand()(graph)
    assert has_declared(graph) and not has_declared(body)
    declared, expanded = vjp_graph(graph), vjp_graph(body)
    assert declared != expanded
    cts = [rng.normal(size=v.shape) for v in graph.outputs]
    for a, b in zip(interpret(graph, arrays), interpret(body, arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(interpret(declared, [*arrays, *cts]), interpret(expanded, [*arrays, *cts]), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_declared_in_forward_mode_is_that_of_the_expansion(name):
    fn, *arrays = CASES[name]
    graph = ng.trace(fn, *arrays)
    declared, expanded = (jvp_graph(g, range(len(arrays))) for g in (graph, Expand()(graph)))
    tangents = [rng.normal(size=x.shape) for x in arrays]
    for a, b in zip(interpret(declared, [*arrays, *tangents]), interpret(expanded, [*arrays, *tangents]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_declared_under_vmap_is_that_of_each_example(name):
    """All operands mapped, and the first alone: then the others' cotangents are sums over the examples."""
    fn, *arrays = CASES[name]
    graph = ng.trace(fn, *arrays)
    cts = [rng.normal(size=(2, *v.shape)) for v in graph.outputs]
    many = [np.stack([x, x[::-1]]) for x in arrays]
    for flags in ([True] * len(arrays), [True] + [False] * (len(arrays) - 1)):
        mapped = batch_graph(graph, 2, flags)
        assert has_declared(mapped)
        given = [m if f else x for m, x, f in zip(many, arrays, flags)]
        found = interpret(vjp_graph(mapped), [*given, *cts])
        each = [interpret(vjp_graph(graph), [*(x[k] if f else x for x, f in zip(given, flags)), *(c[k] for c in cts)]) for k in range(2)]
        for got, f, *parts in zip(found, flags, *each, strict=True):
            np.testing.assert_allclose(got, np.stack(parts) if f else sum(parts), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", "softmax log_softmax logsumexp layer_norm rms_norm gelu gelu_tanh silu elu attention".split())
def test_integers_and_bools_count_as_float64(name):
    fn = getattr(F, name)
    for whole in (np.arange(24).reshape(2, 3, 4) % 5 - 2, np.arange(24).reshape(2, 3, 4) % 3 == 0):
        given = [whole] * (3 if name == "attention" else 1)
        expected = fn(*(x.astype(np.float64) for x in given))
        for found in (fn(*given), ng.jit(fn, backend="numpy")(*given)):
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, expected)


def test_rows_that_are_masked_throughout_are_zeros_and_send_nothing_back():
    q, k, v = Q[:, :2], KV, KV + 1
    assert not F.attention(q, k, v, MASK)[..., 1, :].any()
    dq, dk, dv = ng.grad(lambda q, k, v: np.sum(F.attention(q, k, v, MASK) ** 2), argnums=(0, 1, 2))(q, k, v)
    assert not dq[..., 1, :].any() and dq[..., 0, :].any()
    (only,) = ng.grad(lambda k: np.sum(F.attention(q, k, v, np.full((3, 5), -np.inf))), argnums=(0,))(k)
    assert not only.any()


def test_reverse_mode_keeps_no_scores():
    """Nothing of the size of the scores passes from the forward to the backward part."""
    q = ng.spec((1, 2, 64, 8), "float64")
    graph = ng.trace(lambda q, k, v: F.attention(q, k, v, causal=True), q, q, q)
    (call,) = (n for n in graph.nodes if isinstance(n.op, Call))
    residuals = call.op.fwd.output_types[len(call.op.body.outputs):]
    assert residuals and max(t.size for t in residuals) < 2 * 64 * 64


def test_masks_of_other_dtypes_are_refused():
    with pytest.raises(ng.errors.TypeRuleError, match="mask is bool .* or of the dtype of the scores, f64, and added to them; got i64"):
        F.attention(Q[:, :2], KV, KV, np.ones((3, 5), np.int64))


def test_an_added_mask_is_one_of_bools_where_it_is_infinite():
    q, v = Q[:, :2], KV + 1
    np.testing.assert_array_equal(F.attention(q, KV, v, MASK), F.attention(q, KV, v, ALLOWED))
