"""Losses against their formulas in NumPy, their slopes against differences, their limits and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.nn import losses
from tests.nn.slopes import check_slope

rng = np.random.default_rng(2)
LOGITS, LABELS = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
X, Y, Z = rng.normal(size=(3, 4, 3))
BITS = rng.integers(0, 2, size=(4, 3)).astype(np.float64)
SAME = np.array([1, -1, 1, -1])
P = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
Q = 1 / (1 + np.exp(-X))


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


LOG_P = log_softmax(LOGITS)
ROWS = np.arange(4)
COSINES = (unit(X) * unit(Y)).sum(-1)
SIMILAR = unit(X) @ unit(Y).T / 0.5

#: The loss as a function of its first argument and options, that argument, and the losses of elements or rows.
CASES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "cross entropy": (lambda x, **o: losses.cross_entropy(x, LABELS, **o), LOGITS, -LOG_P[ROWS, LABELS]),
    "smoothed": (lambda x, **o: losses.cross_entropy(x, LABELS, label_smoothing=0.3, **o), LOGITS,
                 -0.7 * LOG_P[ROWS, LABELS] - 0.1 * LOG_P.sum(-1)),
    "mse": (lambda x, **o: losses.mse(x, Y, **o), X, (X - Y) ** 2),
    "huber": (lambda x, **o: losses.huber(x, Y, delta=0.7, **o), X,
              np.where(abs(X - Y) <= 0.7, (X - Y) ** 2 / 2, 0.7 * (abs(X - Y) - 0.35))),
    "kl": (lambda x, **o: losses.kl_divergence(x, P, **o), LOG_P, (P * (np.log(P) - LOG_P)).sum(-1)),
    "bce": (lambda p, **o: losses.binary_cross_entropy(p, BITS, **o), Q, -np.where(BITS == 1, np.log(Q), np.log(1 - Q))),
    "bce logits": (lambda x, **o: losses.binary_cross_entropy_with_logits(x, BITS, **o), X,
                   -np.where(BITS == 1, np.log(Q), np.log(1 - Q))),
    "focal": (lambda x, **o: losses.focal(x, BITS, **o), X,
              -np.where(BITS == 1, 0.25 * (1 - Q) ** 2 * np.log(Q), 0.75 * Q ** 2 * np.log(1 - Q))),
    "cosine": (lambda x, **o: losses.cosine_embedding(x, Y, SAME, margin=-0.9, **o), X,
               np.where(SAME == 1, 1 - COSINES, np.maximum(COSINES + 0.9, 0))),
    "triplet": (lambda x, **o: losses.triplet(x, Y, Z, margin=0.5, eps=0.0, **o), X,
                np.maximum(np.linalg.norm(X - Y, axis=-1) - np.linalg.norm(X - Z, axis=-1) + 0.5, 0)),
    "contrastive": (lambda x, **o: losses.contrastive(x, Y, temperature=0.5, **o), X,
                    -(log_softmax(SIMILAR)[ROWS, ROWS] + log_softmax(SIMILAR.T)[ROWS, ROWS]) / 2),
}


@pytest.mark.parametrize("name", CASES)
def test_formula_and_reductions(name: str) -> None:
    loss, x, expected = CASES[name]
    np.testing.assert_allclose(loss(x, reduction="none"), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ng.jit(lambda x: loss(x, reduction="sum"))(x), expected.sum(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(loss(x), expected.mean(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_slope_against_differences(name: str) -> None:
    loss, x, _ = CASES[name]
    check_slope(loss, x)


@pytest.mark.parametrize("name", CASES)
def test_unknown_reduction(name: str) -> None:
    loss, x, _ = CASES[name]
    with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none", got \'average\''):
        loss(x, reduction="average")


def test_cross_entropy_of_large_logits_is_exact() -> None:
    x = np.array([[1e4, 0, -1e4], [0, 1e4, -1e4]], np.float32)
    np.testing.assert_array_equal(losses.cross_entropy(x, np.array([0, 0]), reduction="none"), [0, 1e4])
    assert np.isfinite(ng.grad(lambda x: losses.cross_entropy(x, np.array([0, 0])))(x)).all()


def test_cross_entropy_gradient_is_softmax_minus_target() -> None:
    expected = (np.exp(LOG_P) - np.eye(3)[LABELS]) / 4
    np.testing.assert_allclose(ng.grad(lambda x: losses.cross_entropy(x, LABELS))(LOGITS), expected, rtol=1e-12, atol=1e-12)


def test_binary_cross_entropy_at_the_ends() -> None:
    """Certain mistakes cost 100 and have a large finite slope; certain and right costs nothing."""
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(losses.binary_cross_entropy(p, t, reduction="none"), [0, 0, 100, 100])
    np.testing.assert_allclose(ng.grad(lambda p: losses.binary_cross_entropy(p, t, reduction="sum"))(p), [0, 0, -1e12, 1e12])


def test_binary_cross_entropy_at_the_ends_in_every_mode() -> None:
    """Forward, under vmap, and where the value is differentiated beside the slope."""
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])

    def loss(p: Any) -> Any:
        return losses.binary_cross_entropy(p, t, reduction="none")

    expected = [0, 0, -1e12, 1e12]
    np.testing.assert_allclose(ng.jvp(loss, (p,), (np.ones(4),))[1], expected)
    np.testing.assert_allclose(ng.grad(lambda p: np.sum(ng.vmap(losses.binary_cross_entropy)(p, t)))(p), expected)
    both = ng.value_and_grad(lambda p: np.sum(loss(p)))
    assert np.isfinite(ng.grad(lambda p: both(p)[0] + np.sum(both(p)[1]))(p)).all()


def test_binary_cross_entropy_by_the_targets() -> None:
    check_slope(lambda t: losses.binary_cross_entropy(Q, t), Q[::-1].copy())


def test_binary_cross_entropy_of_large_logits() -> None:
    x, t = np.array([1000.0, -1000, 1000, -1000]), np.array([1.0, 0, 0, 1])
    np.testing.assert_array_equal(losses.binary_cross_entropy_with_logits(x, t, reduction="none"), [0, 0, 1000, 1000])
    np.testing.assert_array_equal(
        ng.grad(lambda x: losses.binary_cross_entropy_with_logits(x, t, reduction="sum"))(x), [0, 0, 1, -1])


def test_focal_without_focus_is_binary_cross_entropy() -> None:
    np.testing.assert_allclose(losses.focal(X, BITS, gamma=0, alpha=None),
                               losses.binary_cross_entropy_with_logits(X, BITS), rtol=1e-12, atol=1e-12)


def test_kl_divergence_of_zero_probability() -> None:
    log_p, target = np.array([[np.log(0.5), np.log(0.5), -np.inf]]), np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(losses.kl_divergence(log_p, target), np.log(2))
    np.testing.assert_array_equal(ng.grad(lambda x: losses.kl_divergence(x, target))(log_p), [[-1, 0, 0]])
    np.testing.assert_allclose(losses.kl_divergence(np.log(P), P), 0, atol=1e-15)


def test_zero_rows_have_finite_slopes() -> None:
    zeros = np.zeros((4, 3))
    for loss in (lambda x: losses.cosine_embedding(x, Y, SAME), lambda x: losses.contrastive(x, Y),
                 lambda x: losses.triplet(x, x, Y), lambda x: losses.huber(x, zeros)):
        assert np.isfinite(ng.grad(loss)(zeros)).all()


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name: str) -> None:
    functions = {"cross entropy": lambda x: losses.cross_entropy(x, LABELS), "mse": lambda x: losses.mse(x, x * 2),
                 "huber": lambda x: losses.huber(x, x * 2), "kl": lambda x: losses.kl_divergence(x, x * x),
                 "bce": lambda x: losses.binary_cross_entropy(ng.nn.functional.sigmoid(x), x * 0),
                 "bce logits": lambda x: losses.binary_cross_entropy_with_logits(x, x * 0), "focal": lambda x: losses.focal(x, x * 0),
                 "cosine": lambda x: losses.cosine_embedding(x, x * x, SAME), "triplet": lambda x: losses.triplet(x, x * x, x + 1),
                 "contrastive": lambda x: losses.contrastive(x, x * x),
                 "smoothed": lambda x: losses.cross_entropy(x, LABELS, label_smoothing=0.1)}
    value, slope = ng.value_and_grad(functions[name])(X.astype(np.float32))
    assert value.dtype == slope.dtype == np.float32 and np.isfinite(slope).all()


@pytest.mark.parametrize("make, message", [
    (lambda: losses.mse(X, Y[:2]), r"shapes must be equal, got \(4, 3\) and \(2, 3\)"),
    (lambda: losses.cross_entropy(X, Y), "labels must be integers"),
    (lambda: losses.cross_entropy(X, LABELS[:2]), "labels"),
    (lambda: losses.contrastive(X[0], Y[0]), r"\[batch, width\], got shape \(3,\)"),
    (lambda: losses.binary_cross_entropy(Q, BITS.astype(np.float32)), "dtypes must be equal.*cast"),
    (lambda: losses.cosine_embedding(X, Y, SAME[:2]), "shapes must be equal"),
])
def test_wrong_shapes_and_dtypes(make: Any, message: str) -> None:
    with pytest.raises(TypeRuleError, match=message):
        make()


@pytest.mark.parametrize("make, message", [
    (lambda: losses.huber(X, Y, delta=0.0), "delta must be greater than 0, got 0.0"),
    (lambda: losses.focal(X, BITS, gamma=-1.0), "gamma must be at least 0, got -1.0"),
    (lambda: losses.contrastive(X, Y, temperature=0.0), "temperature must be greater than 0"),
    (lambda: losses.cross_entropy(X, LABELS, label_smoothing=1.5), "label_smoothing must lie between 0 and 1, got 1.5"),
])
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
