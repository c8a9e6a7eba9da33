"""The functions behind the layers: values, axes, limits; first and second derivatives of those that declare their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.nn import functional as F
from tests.nn.slopes import check_slope

rng = np.random.default_rng(4)
X = rng.normal(size=(3, 4))
V = rng.normal(size=(3, 4))
W, B = rng.normal(size=4), rng.normal(size=4)
Q, K = rng.normal(size=(1, 2, 3, 4)), rng.normal(size=(1, 1, 3, 4))
LABELS = np.array([0, 3, 1])

#: Scalar functions of one array through each function that is a named region.
REGIONS: dict[str, tuple[Any, np.ndarray]] = {
    "gelu": (lambda x: np.sum(V * F.gelu(x)), X),
    "gelu_tanh": (lambda x: np.sum(V * F.gelu_tanh(x)), X),
    "silu": (lambda x: np.sum(V * F.silu(x)), X),
    "elu": (lambda x: np.sum(V * F.elu(x)), X),
    "softplus": (lambda x: np.sum(V * F.softplus(x)), X),
    "softmax": (lambda x: np.sum(V * F.softmax(x)), X),
    "softmax along axis 0": (lambda x: np.sum(V * F.softmax(x, axis=0)), X),
    "log_softmax": (lambda x: np.sum(V * F.log_softmax(x, axis=0)), X),
    "logsumexp": (lambda x: np.sum(V[:, 0] * F.logsumexp(x, axis=1)), X),
    "logsumexp of all": (F.logsumexp, X),
    "logsumexp, axes kept": (lambda x: np.sum(F.logsumexp(x, axis=(0, 1), keepdims=True)), X),
    "layer_norm": (lambda x: np.sum(V * F.layer_norm(x, W, B)), X),
    "layer_norm by its weight": (lambda w: np.sum(V * F.layer_norm(X, w, B)), W),
    "layer_norm without weight": (lambda x: np.sum(V * F.layer_norm(x)), X),
    "rms_norm": (lambda x: np.sum(V * F.rms_norm(x, W)), X),
    "rms_norm without weight": (lambda x: np.sum(V * F.rms_norm(x)), X),
    "group_norm": (lambda x: np.sum(V * F.group_norm(x, W, B, groups=2)), X),
    "batch_norm_training": (lambda x: np.sum(V * F.batch_norm_training(x, W, B)[0]), X),
    "cross_entropy": (lambda x: np.sum(W[:3] * F.cross_entropy(x, LABELS)), X),
    "cross_entropy, smoothed": (lambda x: np.sum(W[:3] * F.cross_entropy(x, LABELS, smoothing=0.2)), X),
    "attention by its queries": (lambda q: np.sum(Q * F.attention(q, K, K, causal=True)), Q),
    "attention by its keys": (lambda k: np.sum(Q * F.attention(Q, k, k, causal=True)), K),
    "rope": (lambda x: np.sum(Q * F.rope(x, *F.rope_tables(3, 4, dtype=np.float64))), Q),
}


@pytest.mark.parametrize("name", REGIONS)
def test_first_derivative(name: str) -> None:
    check_slope(*REGIONS[name])


@pytest.mark.parametrize("name", REGIONS)
def test_second_derivative(name: str) -> None:
    """H v, reverse over reverse and forward over reverse, against differences of the gradient."""
    fn, x = REGIONS[name]
    v = rng.normal(size=x.shape)
    gradient = ng.grad(fn)
    numeric = (gradient(x + 1e-5 * v) - gradient(x - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(ng.grad(lambda x: np.sum(gradient(x) * v))(x), numeric, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ng.hvp(fn, x, v), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", REGIONS)
def test_vmap_is_a_loop(name: str) -> None:
    fn, x = REGIONS[name]
    many = np.stack([x, 2 * x, -x])
    np.testing.assert_allclose(ng.vmap(fn)(many), [ng.jit(fn)(each) for each in many], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ng.vmap(ng.grad(fn))(many), [ng.grad(fn)(each) for each in many], rtol=1e-9, atol=1e-12)


def test_softmax_of_large_numbers_and_masked_rows() -> None:
    x = np.array([[1e4, 0], [-np.inf, 0], [-np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(F.softmax(x), [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(F.log_softmax(x[:1]), [[0, -1e4]])
    np.testing.assert_array_equal(F.logsumexp(x, axis=1), [1e4, 0, -np.inf])
    assert np.isfinite(ng.grad(lambda x: np.sum(F.softmax(x)[:, 0]))(x)).all()
    assert np.isfinite(ng.grad(lambda x: F.logsumexp(x[1:2], axis=1)[0])(x)).all()


def test_activations_at_known_points() -> None:
    x = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(F.gelu(x), [-0.15865525393145707, 0, 0.8413447460685429], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.gelu_tanh(x), [-0.15880800939172324, 0, 0.8411919906082768], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.silu(x), [-0.2689414213699951, 0, 0.7310585786300049], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.leaky_relu(x), [-0.01, 0, 1])
    np.testing.assert_allclose(F.elu(x), [np.exp(-1) - 1, 0, 1])
    np.testing.assert_allclose(F.softplus(x), [0.31326168751822286, np.log(2), 1.3132616875182228], rtol=1e-12, atol=1e-12)


def test_rope_turns_each_pair_by_its_angle() -> None:
    """Lengths stay, and the product of two turned vectors depends on their distance alone."""
    cos, sin = F.rope_tables(8, 4, dtype=np.float64)
    x, y = np.tile(Q[0, 0, 0], (8, 1)), np.tile(Q[0, 0, 1], (8, 1))
    a, b = F.rope(x, cos, sin), F.rope(y, cos, sin)
    np.testing.assert_allclose(np.linalg.norm(a, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a[3] @ b[1], a[7] @ b[5], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(a[0], x[0])
    assert F.rope_tables(8, 4)[0].dtype == np.float32
