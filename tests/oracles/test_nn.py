"""Layers and activations beside PyTorch's: outputs and gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as T
from torch.func import functional_call

import nagraph as ng
from nagraph import nn
from nagraph.nn import functional as F
from tests.oracles.compare import DTYPES, check

pytestmark = pytest.mark.parametrize("dtype", DTYPES)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng((seed, *shape)).normal(size=shape)


ACTIVATIONS = {
    "relu": (F.relu, T.relu),
    "gelu": (F.gelu, T.gelu),
    "gelu_tanh": (F.gelu_tanh, lambda x: T.gelu(x, approximate="tanh")),
    "silu": (F.silu, T.silu),
    "leaky_relu": (F.leaky_relu, T.leaky_relu),
    "leaky_relu_0.2": (lambda x: F.leaky_relu(x, 0.2), lambda x: T.leaky_relu(x, 0.2)),
    "elu": (F.elu, T.elu),
    "elu_0.5": (lambda x: F.elu(x, 0.5), lambda x: T.elu(x, 0.5)),
    "softplus": (F.softplus, lambda x: T.softplus(x, threshold=40)),
    "sigmoid": (F.sigmoid, torch.sigmoid),
    "tanh": (F.tanh, torch.tanh),
    "softmax": (F.softmax, lambda x: T.softmax(x, -1)),
    "log_softmax": (F.log_softmax, lambda x: T.log_softmax(x, -1)),
    "logsumexp": (lambda x: F.logsumexp(x, axis=-1), lambda x: torch.logsumexp(x, -1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str, dtype: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    x = draw(7, 12, scale=3)
    x[0] = [0, -0.0, 1, -1, 30, -30, 12, -12, 1e-6, -1e-6, 0.5, -0.5]
    check(ours, theirs, dtype, x)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool, dtype: str) -> None:
    x, w, b = draw(4, 3, 5), draw(5, 6), draw(6)
    if bias:
        check(lambda x, w, b: nn.Linear(w, b)(x), lambda x, w, b: T.linear(x, w.T, b), dtype, x, w, b)
    else:
        check(lambda x, w: nn.Linear(w, None)(x), lambda x, w: T.linear(x, w.T), dtype, x, w)


def test_embedding(dtype: str) -> None:
    ids = np.array([[0, 3, 3], [9, 1, 0]])
    check(lambda t: nn.Embedding(t)(ids), lambda t: T.embedding(torch.tensor(ids), t), dtype, draw(10, 4))


def test_tied_head(dtype: str) -> None:
    check(lambda t, x: nn.Embedding(t).attend(x), lambda t, x: x @ t.T, dtype, draw(10, 4), draw(2, 3, 4))


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm(eps: float, dtype: str) -> None:
    x, w, b = draw(4, 3, 8, scale=2) + 1, draw(8), draw(8)
    check(lambda x, w, b: nn.LayerNorm(w, b, eps)(x), lambda x, w, b: T.layer_norm(x, (8,), w, b, eps), dtype, x, w, b)
    check(lambda x, w: nn.LayerNorm(w, None, eps)(x), lambda x, w: T.layer_norm(x, (8,), w, None, eps), dtype, x, w)
    check(lambda x: F.layer_norm(x, eps=eps), lambda x: T.layer_norm(x, (8,), eps=eps), dtype, x)


def test_rms_norm(dtype: str) -> None:
    x, w = draw(4, 3, 8, scale=2) + 1, draw(8)
    check(lambda x, w: nn.RMSNorm(w, 1e-6)(x), lambda x, w: T.rms_norm(x, (8,), w, 1e-6), dtype, x, w)
    check(lambda x: F.rms_norm(x, eps=1e-3), lambda x: T.rms_norm(x, (8,), eps=1e-3), dtype, x)


@pytest.mark.parametrize("groups, space", [(1, ()), (2, ()), (1, (4,)), (2, (4,)), (6, (4,)), (1, (3, 5)), (2, (3, 5)), (6, (3, 5))])
def test_group_norm(groups: int, space: tuple[int, ...], dtype: str) -> None:
    x, w, b = draw(4, 6, *space) + 1, draw(6), draw(6)
    check(lambda x, w, b: nn.GroupNorm(w, b, groups)(x), lambda x, w, b: T.group_norm(x, groups, w, b), dtype, x, w, b)


@pytest.mark.parametrize("space", [(), (4,), (3, 5), (2, 3, 2)])
def test_batch_norm_training(space: tuple[int, ...], dtype: str) -> None:
    x, w, b = draw(4, 6, *space, scale=2) + 1, draw(6), draw(6)
    mean, var = draw(6, seed=1), np.exp(draw(6, seed=2))

    def ours(x, w, b, mean, var):
        y, new = nn.BatchNorm(w, b, mean, var, momentum=0.3)(x, training=True)
        return y, new.running_mean, new.running_var

    def theirs(x, w, b, mean, var):
        mean, var = mean.clone(), var.clone()
        y = T.batch_norm(x, mean, var, w, b, training=True, momentum=0.3)
        return y, mean.requires_grad_(), var.requires_grad_()

    check(ours, theirs, dtype, x, w, b, mean, var, fixed=(3, 4))


@pytest.mark.parametrize("space", [(), (3, 5)])
def test_batch_norm_inference(space: tuple[int, ...], dtype: str) -> None:
    x, w, b = draw(4, 6, *space, scale=2) + 1, draw(6), draw(6)
    mean, var = draw(6, seed=1), np.exp(draw(6, seed=2))
    check(lambda x, w, b, m, v: nn.BatchNorm(w, b, m, v)(x), lambda x, w, b, m, v: T.batch_norm(x, m, v, w, b),
          dtype, x, w, b, mean, var, fixed=(3, 4))


CONVS = {1: (nn.Conv1d, T.conv1d), 2: (nn.Conv2d, T.conv2d), 3: (nn.Conv3d, T.conv3d)}
TRANSPOSED = {1: (nn.ConvTranspose1d, T.conv_transpose1d), 2: (nn.ConvTranspose2d, T.conv_transpose2d),
              3: (nn.ConvTranspose3d, T.conv_transpose3d)}
SPACE, KERNEL = (7, 6, 8), (3, 2, 3)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride, padding, dilation, groups", [
    (1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 1, 2, 4), (1, "valid", 1, 2)])
def test_conv(axes: int, stride: int, padding: int, dilation: int, groups: int, dtype: str) -> None:
    layer, function = CONVS[axes]
    x, w, b = draw(2, 4, *SPACE[:axes]), draw(8, 4 // groups, *KERNEL[:axes]), draw(8)
    check(lambda x, w, b: layer(w, b, stride, padding, dilation, groups)(x),
          lambda x, w, b: function(x, w, b, stride, padding, dilation, groups), dtype, x, w, b)


def test_conv_same_padding(dtype: str) -> None:
    x, w = draw(2, 4, 9, 8), draw(8, 4, 3, 2)
    check(lambda x, w: nn.Conv2d(w, None, padding="same")(x), lambda x, w: T.conv2d(x, w, padding="same"), dtype, x, w)


def test_conv_options_for_each_axis(dtype: str) -> None:
    x, w = draw(2, 4, 9, 8), draw(6, 2, 3, 2)
    check(lambda x, w: nn.Conv2d(w, None, (2, 1), (1, 0), (1, 2), 2)(x),
          lambda x, w: T.conv2d(x, w, None, (2, 1), (1, 0), (1, 2), 2), dtype, x, w)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride, padding, extra, dilation, groups", [
    (1, 0, 0, 1, 1), (2, 1, 1, 1, 1), (1, 1, 0, 2, 2), (3, 1, 2, 2, 4)])
def test_conv_transposed(axes: int, stride: int, padding: int, extra: int, dilation: int, groups: int, dtype: str) -> None:
    layer, function = TRANSPOSED[axes]
    x, w, b = draw(2, 4, *(n - 3 for n in SPACE[:axes])), draw(4, 8 // groups, *KERNEL[:axes]), draw(8)
    check(lambda x, w, b: layer(w, b, stride, padding, extra, dilation, groups)(x),
          lambda x, w, b: function(x, w, b, stride, padding, extra, groups, dilation), dtype, x, w, b)


POOLS = {1: (nn.MaxPool1d, T.max_pool1d, nn.AvgPool1d, T.avg_pool1d), 2: (nn.MaxPool2d, T.max_pool2d, nn.AvgPool2d, T.avg_pool2d),
         3: (nn.MaxPool3d, T.max_pool3d, nn.AvgPool3d, T.avg_pool3d)}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("window, stride, padding", [(2, None, 0), (3, 2, 1), (3, 1, 0), (2, 3, 1)])
def test_pooling(axes: int, window: int, stride: int | None, padding: int, dtype: str) -> None:
    largest, torch_largest, average, torch_average = POOLS[axes]
    x = draw(2, 3, *SPACE[:axes])
    check(largest(window, stride, padding), lambda x: torch_largest(x, window, stride, padding), dtype, x)
    for counted in (True, False):
        check(average(window, stride, padding, counted),
              lambda x, c=counted: torch_average(x, window, stride, padding, count_include_pad=c), dtype, x)


def test_global_average_pooling(dtype: str) -> None:
    check(nn.GlobalAvgPool(), lambda x: T.adaptive_avg_pool2d(x, 1)[:, :, 0, 0], dtype, draw(2, 3, 4, 5))


@pytest.mark.parametrize("groups, causal, masked", list(itertools.product([4, 2, 1], [False, True], [False, True])))
def test_attention(groups: int, causal: bool, masked: bool, dtype: str) -> None:
    q, k, v = draw(2, 4, 5, 6), draw(2, groups, 5, 6, seed=1), draw(2, groups, 5, 6, seed=2)
    mask = np.random.default_rng(0).random((2, 1, 5, 5)) < 0.6
    mask |= np.eye(5, dtype=bool)
    allowed = (mask if masked else np.ones_like(mask)) & (np.tril(np.ones((5, 5), bool)) if causal else True)
    check(lambda q, k, v: F.attention(q, k, v, mask if masked else None, causal=causal),
          lambda q, k, v: T.scaled_dot_product_attention(q, k, v, torch.tensor(allowed), enable_gqa=True), dtype, q, k, v)


def test_attention_scale(dtype: str) -> None:
    check(lambda q, k, v: F.attention(q, k, v, scale=0.3), lambda q, k, v: T.scaled_dot_product_attention(q, k, v, scale=0.3),
          dtype, draw(2, 4, 5, 6), draw(2, 4, 7, 6, seed=1), draw(2, 4, 7, 6, seed=2))


def _attention_layer(width: int, context: int, groups: int = 4) -> list[np.ndarray]:
    inner = width // 4 * groups
    shapes = [(width, width), (width,), (context, inner), (inner,), (context, inner), (inner,), (width, width), (width,)]
    return [draw(*s, seed=i, scale=0.3) for i, s in enumerate(shapes)]


def _ours(ws, heads: int, groups: int) -> nn.MultiHeadAttention:
    return nn.MultiHeadAttention(*(nn.Linear(w, b) for w, b in zip(ws[::2], ws[1::2])), heads, groups)


@pytest.mark.parametrize("context_width", [None, 8, 10])
@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(context_width: int | None, causal: bool, dtype: str) -> None:
    """Self attention (no context) and cross attention, with the context's width equal to the layer's or not."""
    x, c = draw(2, 5, 8), draw(2, 5, context_width or 8, seed=1)
    layer = torch.nn.MultiheadAttention(8, 4, batch_first=True, kdim=context_width, vdim=context_width).to(getattr(torch, dtype))
    mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None

    def theirs(x, c, *ws):
        q, bq, k, bk, v, bv, o, bo = ws
        weights = ({"in_proj_weight": torch.cat([q.T, k.T, v.T])} if layer._qkv_same_embed_dim
                   else {"q_proj_weight": q.T, "k_proj_weight": k.T, "v_proj_weight": v.T})
        weights |= {"in_proj_bias": torch.cat([bq, bk, bv]), "out_proj.weight": o.T, "out_proj.bias": bo}
        kv = x if context_width is None else c
        return functional_call(layer, weights, (x, kv, kv), {"attn_mask": mask, "need_weights": False})[0]

    def ours(x, c, *ws):
        return _ours(ws, 4, 4)(x, None if context_width is None else c, causal=causal)

    check(ours, theirs, dtype, x, c, *_attention_layer(8, context_width or 8))


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_query_attention(groups: int, dtype: str) -> None:
    def theirs(x, q, bq, k, bk, v, bv, o, bo):
        def heads(y, n):
            return y.unflatten(-1, (n, 2)).transpose(1, 2)

        y = T.scaled_dot_product_attention(heads(x @ q + bq, 4), heads(x @ k + bk, groups), heads(x @ v + bv, groups),
                                           is_causal=True, enable_gqa=True)
        return y.transpose(1, 2).flatten(-2) @ o + bo

    check(lambda x, *ws: _ours(ws, 4, groups)(x, causal=True), theirs, dtype, draw(2, 5, 8), *_attention_layer(8, 8, groups))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("started", [False, True])
def test_recurrent(kind: str, started: bool, dtype: str) -> None:
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    theirs_layer = getattr(torch.nn, kind)(3, 5, batch_first=True).to(getattr(torch, dtype))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

    def ours(x, h, c, *ws):
        start = None if not started else (h, c) if kind == "LSTM" else h
        ys, last = getattr(nn, kind)(*ws)(x, start)
        return (ys, *last) if kind == "LSTM" else (ys, last)

    def theirs(x, h, c, wi, wh, bi, bh):
        start = None if not started else (h[None], c[None]) if kind == "LSTM" else h[None]
        ys, last = functional_call(theirs_layer, dict(zip(names, (wi.T, wh.T, bi, bh))), (x, start))
        return (ys, *(v[0] for v in last)) if kind == "LSTM" else (ys, last[0])

    n = 5 * gates
    check(ours, theirs, dtype, draw(2, 6, 3), draw(2, 5), draw(2, 5, seed=1),
          draw(3, n, scale=0.5), draw(5, n, scale=0.5), draw(n), draw(n, seed=1))


def test_initialisers_spread_as_pytorch(dtype: str) -> None:
    """The default bounds of linear and convolution layers are PyTorch's: 1/√(inputs of a unit)."""
    torch.manual_seed(0)
    for ours, theirs in [(nn.Linear.init(ng.random.key(0), 300, 400, dtype=np.dtype(dtype)), torch.nn.Linear(300, 400)),
                         (nn.Conv2d.init(ng.random.key(0), 20, 60, 5, dtype=np.dtype(dtype)), torch.nn.Conv2d(20, 60, 5)),
                         (nn.ConvTranspose2d.init(ng.random.key(0), 20, 60, 5, dtype=np.dtype(dtype)),
                          torch.nn.ConvTranspose2d(20, 60, 5))]:
        for name in ("weight", "bias"):
            a, b = np.abs(getattr(ours, name)), getattr(theirs, name).detach().abs().numpy()
            assert a.dtype == dtype
            np.testing.assert_allclose([a.max(), a.mean()], [b.max(), b.mean()], rtol=0.2)


def test_whole_network(dtype: str) -> None:
    """A small convolutional classifier, end to end."""
    x = draw(3, 2, 8, 8)
    ws = [draw(4, 2, 3, 3, scale=0.3), draw(4), np.ones(4), np.zeros(4), draw(64, 5, scale=0.2), draw(5)]

    def ours(x, k, kb, g, b, w, wb):
        model = nn.sequential(nn.Conv2d(k, kb, padding=1), nn.GroupNorm(g, b, 2), F.gelu, nn.MaxPool2d(2),
                              lambda h: ng.numpy.reshape(h, (h.shape[0], -1)), nn.Linear(w, wb))
        return model(x)

    def theirs(x, k, kb, g, b, w, wb):
        h = T.max_pool2d(T.gelu(T.group_norm(T.conv2d(x, k, kb, padding=1), 2, g, b)), 2)
        return h.flatten(1) @ w + wb

    check(ours, theirs, dtype, x, *ws)
