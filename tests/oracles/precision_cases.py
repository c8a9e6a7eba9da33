"""What is computed in 16 bits by nagraph and by PyTorch, and the inputs on which their errors are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as T

import nagraph as ng
from nagraph.nn import functional as F
from nagraph.nn import losses

N = ng.numpy
Array = Any


class Case(NamedTuple):
    """ours and theirs compute the same of arrays of these shapes; `positive` ones are probabilities."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...] = ("normal", "offset", "large", "tiny", "equal")


ROWS, LONG, IMAGES = (6, 33), (3, 3000), (2, 4, 9, 8)
LABELS = np.array([0, 4, 32, 7, 7, 1])
GENERAL = ("normal", "offset", "large", "tiny", "equal")
MILD = ("normal", "tiny", "equal")


def _reduction(name: str, theirs: Callable[..., Any]) -> dict[str, Case]:
    ours = getattr(N, name)
    return {f"{name} of rows": Case(lambda x: ours(x, axis=-1), lambda x: theirs(x, dim=-1), (LONG,)),
            f"{name} of columns": Case(lambda x: ours(x, axis=0), lambda x: theirs(x, dim=0), ((300, 70),)),
            f"{name} of all": Case(lambda x: ours(x), lambda x: theirs(x, dim=(0, 1)), ((130, 127),))}


def _var(x: Any, dim: Any) -> Any:
    return torch.var(x, dim=dim, correction=0)


def _std(x: Any, dim: Any) -> Any:
    return torch.std(x, dim=dim, correction=0)


CASES: dict[str, Case] = {
    **_reduction("sum", torch.sum), **_reduction("mean", torch.mean), **_reduction("var", _var), **_reduction("std", _std),
    "logsumexp": Case(lambda x: F.logsumexp(x, axis=-1), lambda x: torch.logsumexp(x, -1), (LONG,)),
    "norm": Case(lambda x: N.linalg.norm(x, axis=-1), lambda x: torch.linalg.vector_norm(x, dim=-1), (LONG,)),
    "norm of all": Case(lambda x: N.linalg.norm(x), torch.linalg.vector_norm, ((50, 60),)),
    "prod": Case(lambda x: N.prod(x, axis=-1), lambda x: torch.prod(x, -1), ((5, 9),), ("normal", "equal")),
    "cumsum": Case(lambda x: N.cumsum(x, axis=-1), lambda x: torch.cumsum(x, -1), ((4, 500),)),
    "cumprod": Case(lambda x: N.cumprod(x, axis=-1), lambda x: torch.cumprod(x, -1), ((4, 9),), ("normal", "equal")),
    "softmax": Case(F.softmax, lambda x: T.softmax(x, -1), (LONG,)),
    "log_softmax": Case(F.log_softmax, lambda x: T.log_softmax(x, -1), (LONG,)),
    "layer_norm": Case(F.layer_norm, lambda x, w, b: T.layer_norm(x, x.shape[-1:], w, b), (ROWS, (33,), (33,)), GENERAL),
    "rms_norm": Case(lambda x, w: F.rms_norm(x, w, eps=1e-6), lambda x, w: T.rms_norm(x, x.shape[-1:], w, eps=1e-6), (ROWS, (33,))),
    "group_norm": Case(lambda x, w, b: F.group_norm(x, w, b, groups=2), lambda x, w, b: T.group_norm(x, 2, w, b), (IMAGES, (4,), (4,))),
    "batch_norm": Case(lambda x, w, b: F.batch_norm_training(x, w, b)[0], lambda x, w, b: T.batch_norm(x, None, None, w, b, True),
                       (IMAGES, (4,), (4,))),
    "gelu": Case(F.gelu, T.gelu, (ROWS,)),
    "gelu_tanh": Case(F.gelu_tanh, lambda x: T.gelu(x, approximate="tanh"), (ROWS,)),
    "silu": Case(F.silu, T.silu, (ROWS,)),
    "softplus": Case(F.softplus, lambda x: T.softplus(x, threshold=1e9), (ROWS,), MILD),
    "elu": Case(F.elu, T.elu, (ROWS,)),
    "leaky_relu": Case(F.leaky_relu, T.leaky_relu, (ROWS,)),
    "tanh": Case(N.tanh, torch.tanh, (ROWS,)),
    "sigmoid": Case(F.sigmoid, torch.sigmoid, (ROWS,)),
    "max_pool": Case(lambda x: F.max_pool(x, 2), lambda x: T.max_pool2d(x, 2), (IMAGES,), ("normal", "offset", "large", "tiny")),
    "avg_pool": Case(lambda x: F.avg_pool(x, 3, 2), lambda x: T.avg_pool2d(x, 3, 2), (IMAGES,), (*GENERAL, "high")),
    "avg_pool, padded": Case(lambda x: F.avg_pool(x, 3, 1, 1, False),
                             lambda x: T.avg_pool2d(x, 3, 1, 1, count_include_pad=False), (IMAGES,)),
    "matmul": Case(N.matmul, torch.matmul, ((33, 200), (200, 65))),
    "matrix times vector": Case(N.matmul, torch.matmul, ((33, 700), (700,))),
    "batched matmul": Case(N.matmul, torch.matmul, ((3, 17, 90), (3, 90, 9))),
    "conv": Case(lambda x, w: F.conv(x, w, 1, 1), lambda x, w: T.conv2d(x, w, None, 1, 1), (IMAGES, (8, 4, 3, 3))),
    "strided conv": Case(lambda x, w: F.conv(x, w, 2), lambda x, w: T.conv2d(x, w, None, 2), (IMAGES, (8, 4, 3, 3))),
    "depthwise conv": Case(lambda x, w: F.conv(x, w, 1, 1, 1, 4), lambda x, w: T.conv2d(x, w, None, 1, 1, 1, 4), (IMAGES, (4, 1, 3, 3))),
    "conv_transpose": Case(lambda x, w: F.conv_transpose(x, w, 2), lambda x, w: T.conv_transpose2d(x, w, None, 2), (IMAGES, (4, 6, 3, 3))),
    "attention": Case(F.attention, T.scaled_dot_product_attention, ((2, 3, 17, 16),) * 3),
    "causal attention": Case(lambda q, k, v: F.attention(q, k, v, causal=True),
                             lambda q, k, v: T.scaled_dot_product_attention(q, k, v, is_causal=True), ((2, 3, 40, 16),) * 3),
    "cross_entropy": Case(lambda x: losses.cross_entropy(x, LABELS), lambda x: T.cross_entropy(x, torch.tensor(LABELS)), (ROWS,)),
    "cross_entropy, smoothed": Case(lambda x: losses.cross_entropy(x, LABELS, label_smoothing=0.1),
                                    lambda x: T.cross_entropy(x, torch.tensor(LABELS), label_smoothing=0.1), (ROWS,)),
    "mse": Case(losses.mse, T.mse_loss, (ROWS, ROWS)),
    "huber": Case(losses.huber, T.huber_loss, (ROWS, ROWS)),
    "kl_divergence": Case(lambda x, p: losses.kl_divergence(x, p, reduction="sum"), lambda x, p: T.kl_div(x, p, reduction="sum"),
                          (ROWS, ROWS), ("unit",)),
    "binary_cross_entropy": Case(losses.binary_cross_entropy, T.binary_cross_entropy, (ROWS, ROWS), ("unit",)),
    "binary_cross_entropy_with_logits": Case(losses.binary_cross_entropy_with_logits, T.binary_cross_entropy_with_logits,
                                             (ROWS, ROWS), ("unit", "normal")),
    "cosine_similarity": Case(losses.cosine_similarity, lambda x, y: T.cosine_similarity(x, y, -1), (ROWS, ROWS)),
    "triplet": Case(losses.triplet, T.triplet_margin_loss, (ROWS,) * 3, ("normal", "large")),
    "column broadcast": Case(lambda x, b: x * b, lambda x, b: x * b, ((300, 20), (20,)), GENERAL),
}


def inputs(case: Case, kind: str, dtype: Any) -> list[np.ndarray[Any, Any]]:
    """Arrays of a kind: the first large, tiny, at an offset or of equal values; the others are ordinary."""
    rng = np.random.default_rng(len(kind) + sum(map(sum, case.shapes)))
    arrays = [rng.uniform(0.05, 0.95, size=s) if kind == "unit" else rng.normal(size=s) for s in case.shapes]
    first = {"normal": arrays[0], "unit": arrays[0], "offset": 40 + arrays[0], "large": 800 * arrays[0],
             "tiny": 1e-3 * arrays[0], "high": 3e4 + 100 * arrays[0], "equal": np.full(case.shapes[0], 1.7)}[kind]
    return [x.astype(dtype) for x in (first, *arrays[1:])]
