"""Layers against plain NumPy, their gradients against differences, and what they say of wrong input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import nn
from nagraph.errors import TypeRuleError
from nagraph.nn import functional as F
from tests.nn.slopes import check_slope

KEY = ng.random.key(3)
rng = np.random.default_rng(0)
f64 = np.dtype(np.float64)


def softmax(s: np.ndarray) -> np.ndarray:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (nn.Linear.init(KEY, 4, 3, dtype=f64), (2, 4)),
    "linear without bias": (nn.Linear.init(KEY, 4, 3, bias=False, dtype=f64), (2, 4)),
    "layer norm": (nn.LayerNorm.init(4, dtype=f64), (2, 4)),
    "layer norm without bias": (nn.LayerNorm.init(4, bias=False, dtype=f64), (2, 4)),
    "rms norm": (nn.RMSNorm.init(4, dtype=f64), (2, 4)),
    "group norm": (nn.GroupNorm.init(2, 4, dtype=f64), (2, 4, 3)),
    "batch norm": (nn.BatchNorm.init(4, dtype=f64), (2, 4, 3)),
    "conv 1d": (nn.Conv1d.init(KEY, 4, 6, 3, padding=1, groups=2, dtype=f64), (2, 4, 5)),
    "conv 2d": (nn.Conv2d.init(KEY, 2, 3, (3, 2), stride=2, dtype=f64), (2, 2, 5, 6)),
    "conv 3d": (nn.Conv3d.init(KEY, 2, 3, 2, dilation=2, bias=False, dtype=f64), (1, 2, 3, 4, 3)),
    "transposed 1d": (nn.ConvTranspose1d.init(KEY, 4, 6, 3, stride=2, output_padding=1, dtype=f64), (2, 4, 5)),
    "transposed 2d": (nn.ConvTranspose2d.init(KEY, 2, 4, 3, padding=1, groups=2, dtype=f64), (2, 2, 4, 3)),
    "transposed 3d": (nn.ConvTranspose3d.init(KEY, 2, 3, 2, dtype=f64), (1, 2, 2, 3, 2)),
    "max pool": (nn.MaxPool2d(2), (2, 3, 4, 6)),
    "average pool": (nn.AvgPool1d(3, 2, 1, count_padding=False), (2, 3, 7)),
    "global average": (nn.GlobalAvgPool(), (2, 3, 4, 5)),
    "attention": (nn.MultiHeadAttention.init(KEY, 8, 4, groups=2, dtype=f64), (2, 5, 8)),
    "gelu network": (nn.sequential(nn.Linear.init(KEY, 4, 8, dtype=f64), F.gelu, nn.Linear.init(KEY, 8, 2, dtype=f64)), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_against_differences(name: str) -> None:
    layer, shape = LAYERS[name]
    x = rng.normal(size=shape)
    weights = rng.normal(size=ng.jit(lambda m, x: m(x))(layer, x).shape)
    grads, _ = check_slope(lambda both: np.sum(both[0](both[1]) * weights), (layer, x))
    assert ng.tree.structure(grads) == ng.tree.structure(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32_and_jit_agrees_with_eager(name: str) -> None:
    layer, shape = LAYERS[name]
    layer, x = layer.astype(np.float32), rng.normal(size=shape).astype(np.float32)
    eager, jitted = layer(x), ng.jit(lambda m, x: m(x))(layer, x)
    assert eager.dtype == jitted.dtype == np.float32
    np.testing.assert_allclose(eager, jitted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_gradient_against_differences(kind: Any) -> None:
    layer, x = kind.init(KEY, 3, 4, dtype=f64), rng.normal(size=(2, 5, 3))
    weights = rng.normal(size=(2, 5, 4))
    check_slope(lambda both: np.sum(both[0](both[1])[0] * weights), (layer, x))


def test_linear() -> None:
    layer, x = nn.Linear.init(KEY, 4, 3), rng.normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x @ layer.weight + layer.bias, rtol=1e-6)


def test_linear_with_the_wrong_width_names_both() -> None:
    with pytest.raises(TypeRuleError, match="4.*5|5.*4"):
        nn.Linear.init(KEY, 4, 3)(np.ones((2, 5), np.float32))


def test_embedding_looks_up_and_scatters_back() -> None:
    layer, ids = nn.Embedding.init(KEY, 6, 3, dtype=f64), np.array([[5, 0], [5, 2]])
    np.testing.assert_array_equal(layer(ids), layer.table[ids])
    counts = ng.grad(lambda m: np.sum(m(ids)))(layer).table
    np.testing.assert_array_equal(counts, np.array([1, 0, 1, 0, 0, 2.0])[:, None] * np.ones(3))
    x = rng.normal(size=(2, 3))
    np.testing.assert_allclose(layer.attend(x), x @ layer.table.T)


def test_norms() -> None:
    x, w, b = rng.normal(size=(3, 8)) + 2, rng.normal(size=8), rng.normal(size=8)
    unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(nn.LayerNorm(w, b)(x), unit * w + b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(nn.RMSNorm(w)(x), x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w, rtol=1e-12, atol=1e-12)
    grouped = x.reshape(3, 4, 2)
    unit = (grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(grouped.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(nn.GroupNorm(w, b, 4)(x), unit.reshape(3, 8) * w + b, rtol=1e-12, atol=1e-12)


def correlate(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Stride 1, no padding, one group: the definition."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], tuple(range(2, x.ndim)))
    d = x.ndim - 2
    y = np.tensordot(windows, w, ([1, *range(2 + d, 2 + 2 * d)], [1, *range(2, 2 + d)]))
    return np.moveaxis(y, -1, 1)


@pytest.mark.parametrize("layer, space", [(nn.Conv1d, (6,)), (nn.Conv2d, (5, 6)), (nn.Conv3d, (4, 5, 3))])
def test_conv(layer: Any, space: tuple[int, ...]) -> None:
    conv = layer.init(KEY, 3, 4, 2, dtype=f64)
    x = rng.normal(size=(2, 3, *space))
    expected = correlate(x, conv.weight) + conv.bias.reshape(-1, *(1,) * len(space))
    np.testing.assert_allclose(conv(x), expected, rtol=1e-12, atol=1e-12)
    padded = np.pad(x, ((0, 0), (0, 0), *((1, 1),) * len(space)))
    np.testing.assert_allclose(conv.replace(padding=1, bias=None)(x), correlate(padded, conv.weight), rtol=1e-12, atol=1e-12)
    strided = conv.replace(stride=2, bias=None)(x)
    every_second = (slice(None),) * 2 + (slice(None, None, 2),) * len(space)
    np.testing.assert_allclose(strided, correlate(x, conv.weight)[every_second], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forward, back, space", [
    (nn.Conv1d, nn.ConvTranspose1d, (7,)), (nn.Conv2d, nn.ConvTranspose2d, (7, 5)), (nn.Conv3d, nn.ConvTranspose3d, (5, 3, 5))])
def test_transposed_conv_is_the_transpose(forward: Any, back: Any, space: tuple[int, ...]) -> None:
    """<conv(x), y> = <x, transposed(y)> with the same kernel."""
    options = {"stride": 2, "padding": 1, "groups": 2}
    conv = forward.init(KEY, 4, 6, 3, bias=False, dtype=f64, **options)
    x = rng.normal(size=(2, 4, *space))
    y = rng.normal(size=conv(x).shape)
    transposed = back(conv.weight, None, **options)(y)
    assert transposed.shape == x.shape
    np.testing.assert_allclose(np.vdot(conv(x), y), np.vdot(x, transposed), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Conv1d.init(KEY, 4, 6, 3, groups=4), "groups 4 must divide"),
    (lambda: nn.ConvTranspose1d.init(KEY, 4, 6, 3, stride=2, output_padding=2), "output_padding .* must be less than"),
    (lambda: nn.Conv2d.init(KEY, 4, 6, (3, 3, 3)), "3 entries for 2 spatial axes"),
    (lambda: nn.Conv2d.init(KEY, 4, 6, 3)(np.ones((4, 5, 5), np.float32)), r"2 spatial axes, got shape \(4, 5, 5\)"),
    (lambda: nn.MaxPool1d(2)(np.ones((1, 4, 5, 5))), r"1 spatial axes, got shape \(1, 4, 5, 5\)"),
    (lambda: nn.AvgPool2d((2, 2, 2))(np.ones((1, 4, 5, 5))), "3 entries for 2 spatial axes"),
    (lambda: nn.GlobalAvgPool()(np.ones((4, 5))), r"\[batch, channels, \*spatial\]"),
    (lambda: nn.MultiHeadAttention.init(KEY, 10, 4), "width 10 must be a multiple of heads 4"),
])
def test_errors_name_the_rule_and_the_values(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_pooling() -> None:
    x = rng.normal(size=(2, 3, 6))
    pairs = x.reshape(2, 3, 3, 2)
    np.testing.assert_array_equal(nn.MaxPool1d(2)(x), pairs.max(-1))
    np.testing.assert_allclose(nn.AvgPool1d(2)(x), pairs.mean(-1), rtol=1e-14, atol=1e-14)
    ones = np.ones((1, 1, 4))
    np.testing.assert_allclose(nn.AvgPool1d(3, 1, 1)(ones), [[[2 / 3, 1, 1, 2 / 3]]])
    np.testing.assert_allclose(nn.AvgPool1d(3, 1, 1, count_padding=False)(ones), np.ones((1, 1, 4)))
    np.testing.assert_array_equal(nn.MaxPool1d(3, 1, 1)(-ones), -ones)
    np.testing.assert_allclose(nn.global_avg_pool(x), x.mean(-1))


def test_attention_sees_no_future() -> None:
    layer, x = nn.MultiHeadAttention.init(KEY, 8, 2, dtype=f64), rng.normal(size=(1, 6, 8))
    changed = x.copy()
    changed[:, 4:] += 1
    before, after = layer(x, causal=True), layer(changed, causal=True)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()


def test_attention_formula() -> None:
    layer = nn.MultiHeadAttention.init(KEY, 8, 4, groups=2, context_width=6, dtype=f64)
    x, c = rng.normal(size=(3, 5, 8)), rng.normal(size=(3, 7, 6))
    q, k, v = layer.query(x), layer.key(c), layer.value(c)
    assert k.shape == (3, 7, 4)
    heads = []
    for h in range(4):
        g = h // 2  # two query heads share one key head
        p = softmax(q[..., 2 * h:2 * h + 2] @ k[..., 2 * g:2 * g + 2].swapaxes(1, 2) / np.sqrt(2))
        heads.append(p @ v[..., 2 * g:2 * g + 2])
    np.testing.assert_allclose(layer(x, c), layer.output(np.concatenate(heads, -1)), rtol=1e-12, atol=1e-12)


def test_attention_row_without_anything_to_see_is_zero() -> None:
    q = rng.normal(size=(1, 1, 2, 4))
    mask = np.array([[True, True], [False, False]])
    y = F.attention(q, q, q, mask)
    assert np.isfinite(y).all() and (y[0, 0, 1] == 0).all() and (y[0, 0, 0] != 0).all()
    grads = ng.grad(lambda q: np.sum(F.attention(q, q, q, mask)))(q)
    assert np.isfinite(grads).all()


def test_split_and_join_heads() -> None:
    x = rng.normal(size=(2, 3, 8))
    assert nn.split_heads(x, 4).shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(nn.split_heads(x, 4)[:, 1], x[..., 2:4])
    np.testing.assert_array_equal(nn.join_heads(nn.split_heads(x, 4)), x)


def test_rnn_step_by_step() -> None:
    layer, x = nn.RNN.init(KEY, 3, 4, dtype=f64), rng.normal(size=(2, 5, 3))
    h, expected = np.zeros((2, 4)), []
    for t in range(5):
        h = np.tanh(x[:, t] @ layer.input_weight + layer.input_bias + h @ layer.hidden_weight + layer.hidden_bias)
        expected.append(h)
    ys, last = layer(x)
    np.testing.assert_allclose(ys, np.stack(expected, 1), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(last, ys[:, -1])


def test_lstm_step_by_step() -> None:
    layer, x = nn.LSTM.init(KEY, 3, 4, dtype=f64), rng.normal(size=(2, 5, 3))
    h = c = np.zeros((2, 4))
    for t in range(5):
        i, f, g, o = np.split(x[:, t] @ layer.input_weight + layer.input_bias + h @ layer.hidden_weight + layer.hidden_bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    ys, last = layer(x)
    np.testing.assert_allclose(ys[:, -1], h, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(last[1], c, rtol=1e-12, atol=1e-12)


def test_gru_step_by_step() -> None:
    layer, x = nn.GRU.init(KEY, 3, 4, dtype=f64), rng.normal(size=(2, 5, 3))
    h = np.zeros((2, 4))
    for t in range(5):
        a, u = x[:, t] @ layer.input_weight + layer.input_bias, h @ layer.hidden_weight + layer.hidden_bias
        r, z = sigmoid(a[:, :4] + u[:, :4]), sigmoid(a[:, 4:8] + u[:, 4:8])
        h = (1 - z) * np.tanh(a[:, 8:] + r * u[:, 8:]) + z * h
    np.testing.assert_allclose(layer(x)[1], h, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_state_carries_on(kind: Any) -> None:
    """Two halves with the state handed over are the whole."""
    layer, x = kind.init(KEY, 3, 4, dtype=f64), rng.normal(size=(2, 6, 3))
    whole, last = layer(x)
    first, middle = layer(x[:, :2])
    second, end = layer(x[:, 2:], middle)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(ng.tree.leaves(end), ng.tree.leaves(last), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_relu_has_slope_zero_at_zero_and_keeps_nan() -> None:
    x = np.array([-1.0, -0.0, 0.0, 2.0])
    np.testing.assert_array_equal(ng.grad(lambda x: np.sum(F.relu(x)))(x), [0, 0, 0, 1])
    np.testing.assert_array_equal(F.relu(np.array([np.nan, -np.inf, np.inf])), [np.nan, 0, np.inf])


@pytest.mark.parametrize("fn", [F.relu, F.gelu, F.gelu_tanh, F.silu, F.leaky_relu, F.elu, F.softplus, F.sigmoid])
def test_activations_and_slopes_are_finite_far_out(fn: Any) -> None:
    x = np.array([-1e4, -100, -20, 20, 100, 1e4], np.float32)
    slopes = ng.grad(lambda x: np.sum(fn(x)))(x)
    assert np.isfinite(fn(x)).all() and np.isfinite(slopes).all() and slopes.dtype == np.float32
