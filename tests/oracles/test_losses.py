"""Losses beside PyTorch's: values and gradients, for each reduction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as T

from nagraph.nn import losses
from tests.oracles.compare import DTYPES, check

pytestmark = [pytest.mark.parametrize("dtype", DTYPES), pytest.mark.parametrize("reduction", ["mean", "sum", "none"])]

rng = np.random.default_rng(3)
LOGITS, LABELS = 2 * rng.normal(size=(6, 5)), np.array([0, 4, 2, 2, 1, 3])
X, Y, Z = rng.normal(size=(3, 6, 5))
BITS = rng.integers(0, 2, size=(6, 5)).astype(np.float64)


def reduced(x: torch.Tensor, reduction: str) -> torch.Tensor:
    return {"mean": torch.mean, "sum": torch.sum, "none": lambda v: v}[reduction](x)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing: float, reduction: str, dtype: str) -> None:
    options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": reduction}
    check(lambda x, y: losses.cross_entropy(x, y, **options), lambda x, y: T.cross_entropy(x, y, **options), dtype, LOGITS, LABELS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignore", [-100, 2, -1])
def test_ignored_labels(smoothing: float, ignore: int, reduction: str, dtype: str) -> None:
    options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": ignore}
    labels = np.where([True, False, True, True, False, True], LABELS, ignore)
    check(lambda x, y: losses.cross_entropy(x, y, **options), lambda x, y: T.cross_entropy(x, y, **options), dtype, LOGITS, labels)


def test_nothing_but_ignored_labels(reduction: str, dtype: str) -> None:
    labels = np.full(6, -100)
    ours, theirs = (f(*xs, reduction=reduction) for f, xs in (
        (losses.cross_entropy, (LOGITS, labels)), (T.cross_entropy, (torch.tensor(LOGITS), torch.tensor(labels)))))
    np.testing.assert_array_equal(ours, theirs.numpy())  # nan where it is a mean


def test_cross_entropy_of_sequences(reduction: str, dtype: str) -> None:
    check(lambda x, y: losses.cross_entropy(x, y, reduction=reduction),
          lambda x, y: T.cross_entropy(x.swapaxes(1, 2), y, reduction=reduction),
          dtype, LOGITS.reshape(2, 3, 5), LABELS.reshape(2, 3))


def test_cross_entropy_of_large_logits(reduction: str, dtype: str) -> None:
    check(lambda x, y: losses.cross_entropy(x, y, reduction=reduction), lambda x, y: T.cross_entropy(x, y, reduction=reduction),
          dtype, 1000 * LOGITS, LABELS)


def test_mse(reduction: str, dtype: str) -> None:
    check(lambda x, y: losses.mse(x, y, reduction=reduction), lambda x, y: T.mse_loss(x, y, reduction=reduction), dtype, X, Y)


@pytest.mark.parametrize("delta", [0.5, 1.0, 10.0])
def test_huber(delta: float, reduction: str, dtype: str) -> None:
    far = X.copy()
    far[0] = Y[0]  # no difference: slope 0
    check(lambda x, y: losses.huber(x, y, delta=delta, reduction=reduction),
          lambda x, y: T.huber_loss(x, y, delta=delta, reduction=reduction), dtype, far, Y)


def test_kl_divergence(reduction: str, dtype: str) -> None:
    p = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    p[0] = [0, 0.5, 0.5, 0, 0]
    check(lambda x, p: losses.kl_divergence(x, p, reduction=reduction),
          lambda x, p: reduced(T.kl_div(x, p, reduction="none").sum(-1), reduction), dtype, Y, p, fixed=(1,))
    if reduction == "mean":
        check(losses.kl_divergence, lambda x, p: T.kl_div(x, p, reduction="batchmean"), dtype, Y, p, fixed=(1,))


def test_binary_cross_entropy(reduction: str, dtype: str) -> None:
    p = 1 / (1 + np.exp(-X))
    check(lambda p, t: losses.binary_cross_entropy(p, t, reduction=reduction),
          lambda p, t: T.binary_cross_entropy(p, t, reduction=reduction), dtype, p, 1 / (1 + np.exp(-Y)))
    p[0], bits = [0, 1, 0, 1, 0.5], BITS.copy()
    bits[0] = [0, 1, 0, 1, 1]  # certain and right: PyTorch's slope is 0, not nan
    check(lambda p, t: losses.binary_cross_entropy(p, t, reduction=reduction),
          lambda p, t: T.binary_cross_entropy(p, t, reduction=reduction), dtype, p, bits, fixed=(1,))


def test_binary_cross_entropy_with_logits(reduction: str, dtype: str) -> None:
    x = X.copy()
    x[0] = [0, 100, -100, 1000, -1000]
    check(lambda x, t: losses.binary_cross_entropy_with_logits(x, t, reduction=reduction),
          lambda x, t: T.binary_cross_entropy_with_logits(x, t, reduction=reduction), dtype, x, BITS)


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.5, None), (0.0, 0.4)])
def test_focal(gamma: float, alpha: float | None, reduction: str, dtype: str) -> None:
    """Beside the paper's formula written in PyTorch, which has no focal loss of its own."""
    def theirs(x, t):
        p = torch.sigmoid(x)
        p_t = p * t + (1 - p) * (1 - t)
        loss = (1 - p_t) ** gamma * T.binary_cross_entropy_with_logits(x, t, reduction="none")
        return reduced(loss if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * loss, reduction)

    check(lambda x, t: losses.focal(x, t, gamma=gamma, alpha=alpha, reduction=reduction), theirs, dtype, X, BITS, fixed=(1,))


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_cosine_embedding(margin: float, reduction: str, dtype: str) -> None:
    same = np.array([1, -1, 1, -1, -1, -1])
    check(lambda x, y, s: losses.cosine_embedding(x, y, s, margin=margin, reduction=reduction),
          lambda x, y, s: T.cosine_embedding_loss(x, y, s, margin, reduction=reduction), dtype, X, Y, same)


@pytest.mark.parametrize("margin", [1.0, 0.1])
def test_triplet(margin: float, reduction: str, dtype: str) -> None:
    close = X.copy()
    close[0] = Y[0]  # anchor and positive equal
    check(lambda a, p, n: losses.triplet(a, p, n, margin=margin, reduction=reduction),
          lambda a, p, n: T.triplet_margin_loss(a, p, n, margin, reduction=reduction), dtype, close, Y, Z)


@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_contrastive(temperature: float, reduction: str, dtype: str) -> None:
    """Beside CLIP's loss written in PyTorch."""
    def theirs(x, y):
        logits, labels = T.normalize(x) @ T.normalize(y).T / temperature, torch.arange(6)
        return sum(T.cross_entropy(v, labels, reduction=reduction) for v in (logits, logits.T)) / 2

    check(lambda x, y: losses.contrastive(x, y, temperature=temperature, reduction=reduction), theirs, dtype, X, Y)
