"""Composites of 16-bit floats are those of float32, rounded once: values and gradients, eagerly and compiled."""

import functools

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.composites.base import REGISTRY
from nagraph.nn import functional as F
from nagraph.nn import losses

DTYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
BACKENDS = {"eager": lambda f: f, "numpy": lambda f: ng.jit(f, backend="numpy"), "llvm": ng.jit}

rng = np.random.default_rng(2)
ROWS, W, B = rng.normal(size=(5, 33)), 1 + rng.normal(size=33) / 4, rng.normal(size=33)
IMAGES, C = rng.normal(size=(3, 4, 5, 3)), 1 + rng.normal(size=4) / 4
Q, KV = rng.normal(size=(2, 4, 7, 8)), rng.normal(size=(2, 2, 9, 8))
MASK = rng.normal(size=(7, 9))
P = rng.uniform(0.05, 0.95, size=(5, 33))
LABELS = np.array([0, 4, 2, 32, 7])

CASES = {
    "softmax": (F.softmax, ROWS),
    "softmax of large": (F.softmax, 300 * ROWS),
    "softmax of many": (F.softmax, np.ones((1, 70000))),
    "softmax, first axis": (lambda x: F.softmax(x, axis=0), ROWS),
    "log_softmax": (F.log_softmax, ROWS),
    "log_softmax of many": (F.log_softmax, np.ones((1, 70000))),
    "logsumexp": (lambda x: F.logsumexp(x, axis=-1), ROWS),
    "logsumexp of many": (lambda x: F.logsumexp(x, axis=-1), np.ones((1, 70000))),
    "layer_norm": (F.layer_norm, ROWS, W, B),
    "layer_norm of an offset": (F.layer_norm, 40 + ROWS, W, B),
    "layer_norm of large": (F.layer_norm, 800 * ROWS, W, B),
    "layer_norm of tiny": (F.layer_norm, 1e-3 * ROWS, W, B),
    "rms_norm": (F.rms_norm, ROWS, W),
    "rms_norm of large": (F.rms_norm, 800 * ROWS, W),
    "group_norm": (lambda x, w, b: F.group_norm(x, w, b, groups=2), IMAGES, C, C - 1),
    "batch_norm": (F.batch_norm, IMAGES, C - 1, C, C, C - 1),
    "batch_norm_training": (F.batch_norm_training, IMAGES, C, C - 1),
    "batch_norm_training of large": (lambda *v: F.batch_norm_training(*v)[:2], 800 * IMAGES, C, C - 1),
    "attention": (F.attention, Q[:, :2], KV, KV + 1),
    "attention of large scores": (F.attention, 4 * Q[:, :2], 8 * KV, KV + 1),
    "attention, grouped and causal": (lambda q, k, v: F.attention(q, k, v, causal=True), Q, KV, KV + 1),
    "attention under a mask": (F.attention, Q[:, :2], KV, KV + 1, MASK),
    "rope": (F.rope, Q, *F.rope_tables(7, 8)),
    "gelu": (F.gelu, 3 * ROWS),
    "gelu_tanh": (F.gelu_tanh, 3 * ROWS),
    "silu": (F.silu, 3 * ROWS),
    "softplus": (F.softplus, 3 * ROWS),
    "elu": (F.elu, 3 * ROWS),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.01), ROWS),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS), 5 * ROWS),
    "cross_entropy, smoothed": (lambda x: F.cross_entropy(x, LABELS, smoothing=0.1), 5 * ROWS),
    "binary_cross_entropy": (losses.composites.binary_cross_entropy, P, P[::-1].copy()),
}


def close_to_one_rounding(got, wanted, dtype, spare: float = 2e-6) -> None:
    """Half a unit in the last place of the dtype, and what float32 adds."""
    got, wanted = (np.asarray(x).astype(np.float64) for x in (got, wanted))
    info = ml_dtypes.finfo(dtype)
    unit = np.maximum(np.abs(wanted), float(info.tiny)) * float(info.eps)
    over = np.abs(got - wanted) - 0.502 * unit - spare * np.abs(wanted).max(initial=0)
    assert over.max(initial=0) <= 0, (float(over.max()), np.unravel_index(int(over.argmax()), over.shape))


def test_every_composite_is_here():
    missing = set(REGISTRY) - {name.split(",")[0].split(" ")[0] for name in CASES}
    assert not missing


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_values_are_rounded_once(name, dtype, backend):
    fn, *arrays = CASES[name]
    arrays = [x.astype(DTYPES[dtype]) for x in arrays]
    wanted, got = fn(*(x.astype(np.float64) for x in arrays)), BACKENDS[backend](fn)(*arrays)
    for g, w in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, wanted)), strict=True):
        assert g.dtype == DTYPES[dtype]
        close_to_one_rounding(g, w, DTYPES[dtype])


def pulled(name, xs, cs):
    _, pull = ng.vjp(CASES[name][0], *xs)
    return pull(cs[0] if len(cs) == 1 else tuple(cs))


@functools.cache
def gradients(name, dtype):
    """The arguments of a case, cotangents, and the gradients in float64."""
    fn, *arrays = CASES[name]
    arrays = [x.astype(DTYPES[dtype]) for x in arrays]
    wide = [x.astype(np.float64) for x in arrays]
    found = fn(*wide)
    cts = [rng.normal(size=y.shape).astype(DTYPES[dtype]) for y in (found if isinstance(found, tuple) else (found,))]
    return arrays, cts, pulled(name, wide, [c.astype(np.float64) for c in cts])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_rounded_once(name, dtype, backend):
    arrays, cts, wanted = gradients(name, dtype)
    got = BACKENDS[backend](functools.partial(pulled, name))(arrays, cts)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == DTYPES[dtype]
        close_to_one_rounding(g, w, DTYPES[dtype], spare=2e-5)
