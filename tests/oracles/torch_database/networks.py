"""Entries of PyTorch's operator database that are layers and losses, and the functions of ours that answer them."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

import nagraph.numpy as np_
from nagraph.nn import functional as F
from nagraph.nn import losses
from tests.oracles.torch_database.counterpart import unoffered

# -- convolutions and pooling -----------------------------------------------------------------------------


def batched(x: Any, axes: int) -> tuple[Any, bool]:
    """x [N, C, *spatial], and whether PyTorch's had no N."""
    return (np_.expand_dims(x, 0), True) if len(x.shape) == axes + 1 else (x, False)


def plain(value: Any) -> Any:
    """PyTorch's tuples of one number stand for that number."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else tuple(value) if isinstance(value, list) else value


def with_bias(y: Any, bias: Any, axes: int) -> Any:
    return y if bias is None else np_.add(y, np_.reshape(bias, (-1, *(1,) * axes)))


def conv(axes: int) -> Any:
    def computed(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
        x, single = batched(x, axes)
        if padding == "same" and plain(dilation) != 1:
            dilation = (plain(dilation),) * axes if isinstance(plain(dilation), int) else dilation
            total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:])]
            padding = [(t // 2, t - t // 2) for t in total]
        else:
            padding = plain(padding)
        y = with_bias(F.conv(x, w, plain(stride), padding, plain(dilation), groups), bias, axes)
        return y[0] if single else y

    return computed


def conv_transpose(axes: int) -> Any:
    def computed(x: Any, w: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                 dilation: Any = 1) -> Any:
        x, single = batched(x, axes)
        y = F.conv_transpose(x, w, plain(stride), plain(padding), plain(output_padding), plain(dilation), groups)
        y = with_bias(y, bias, axes)
        return y[0] if single else y

    return computed


def avg_pool(axes: int) -> Any:
    def computed(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: Any = None) -> Any:
        if ceil_mode or divisor_override is not None:
            unoffered("windows that reach beyond the end" if ceil_mode else "a divisor of its own")
        window = plain(kernel_size)
        stride = None if stride in (None, ()) else plain(stride)
        x, single = batched(x, axes)
        window = (window,) * axes if isinstance(window, int) else window
        y = F.avg_pool(x, window, stride, plain(padding), count_include_pad)
        return y[0] if single else y

    return computed


def max_pool(axes: int) -> Any:
    def computed(x: Any, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
                 return_indices: bool = False) -> Any:
        if ceil_mode or return_indices or set(np.ravel(dilation)) != {1}:
            unoffered("windows that reach beyond the end" if ceil_mode else "places of maxima" if return_indices else "dilated windows")
        window = plain(kernel_size)
        window = (window,) * axes if isinstance(window, int) else window
        x, single = batched(x, axes)
        y = F.max_pool(x, window, None if stride is None else plain(stride), plain(padding))
        return y[0] if single else y

    return computed


def adaptive_avg_pool(axes: int) -> Any:
    """Windows of one size only: where the axis is a multiple of the result's."""
    def computed(x: Any, size: Any) -> Any:
        wanted = (size,) * axes if isinstance(size, int) else tuple(size)
        wanted = wanted * axes if len(wanted) == 1 else wanted
        found = x.shape[-axes:]
        steps = [n if w is None else w for n, w in zip(found, wanted)]
        if any(n % w for n, w in zip(found, steps)):
            unoffered("windows of several sizes")
        x, single = batched(x, axes)
        y = F.avg_pool(x, tuple(n // w for n, w in zip(found, steps)))
        return y[0] if single else y

    return computed


def constant_pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> Any:
    if any(p < 0 for p in pad):
        unoffered("padding that cuts off")
    pairs = [tuple(pad[i:i + 2]) for i in range(0, len(pad), 2)][::-1]
    return np_.pad(x, [(0, 0)] * (len(x.shape) - len(pairs)) + pairs, constant_values=0 if value is None else value)


# -- normalisation, attention, embedding --------------------------------------------------------------------


def layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Over several axes: those in one."""
    n = math.prod(shape)
    lead = x.shape[:len(x.shape) - len(shape)]
    w, b = (None if v is None else np_.reshape(v, (n,)) for v in (weight, bias))
    return np_.reshape(F.layer_norm(np_.reshape(x, (*lead, n)), w, b, eps=eps), x.shape)


def rms_norm(x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Any:
    n = math.prod(shape)
    lead = x.shape[:len(x.shape) - len(shape)]
    w = None if weight is None else np_.reshape(weight, (n,))
    eps = float(ml_dtypes.finfo(x.dtype).eps) if eps is None else eps
    return np_.reshape(F.rms_norm(np_.reshape(x, (*lead, n)), w, eps=eps), x.shape)


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return F.group_norm(x, weight, bias, groups=groups, eps=eps)


def batch_norm(x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-5) -> Any:
    if len(x.shape) < 2:
        unoffered("batch norm of one axis")
    if training:
        return F.batch_norm_training(x, weight, bias, eps=eps)[0]
    return F.batch_norm(x, mean, var, weight, bias, eps=eps)


def instance_norm(x: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> Any:
    if not use_input_stats:
        return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    return F.group_norm(x, weight, bias, groups=x.shape[1], eps=eps)


def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None,
              enable_gqa: bool = False) -> Any:
    if dropout_p:
        unoffered("dropout")
    if is_causal and q.shape[-2] != k.shape[-2]:
        unoffered("a causal mask that starts at the first key (ours ends at the last)")
    return F.attention(q, k, v, attn_mask, causal=is_causal, scale=scale)


def linear(x: Any, w: Any, bias: Any = None) -> Any:
    y = np_.matmul(x, np_.transpose(w))
    return y if bias is None else np_.add(y, bias)


def bilinear(x: Any, y: Any, w: Any, bias: Any = None) -> Any:
    z = np_.einsum("...i,oij,...j->...o", x, w, y)
    return z if bias is None else np_.add(z, bias)


def embedding(weight: Any, index: Any, **options: Any) -> Any:
    """`index` comes first in PyTorch; its samples put the table first."""
    if options.get("max_norm") is not None or options.get("padding_idx") is not None or options.get("scale_grad_by_freq"):
        unoffered("rows that are rescaled or have no gradient")
    return np_.take(weight, index, axis=0)


def one_hot(labels: Any, num_classes: int = -1) -> Any:
    return unoffered("a number of classes that follows from the labels") if num_classes < 0 else np_.one_hot(labels, num_classes, "i64")


def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    r, (*lead, c, h, w) = upscale_factor, x.shape
    y = np_.reshape(x, (*lead, c // (r * r), r, r, h, w))
    n = len(lead)
    y = np_.transpose(y, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return np_.reshape(y, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(x: Any, downscale_factor: int) -> Any:
    r, (*lead, c, h, w) = downscale_factor, x.shape
    y = np_.reshape(x, (*lead, c, h // r, r, w // r, r))
    n = len(lead)
    y = np_.transpose(y, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return np_.reshape(y, (*lead, c * r * r, h // r, w // r))


def channel_shuffle(x: Any, groups: int) -> Any:
    n, c, *rest = x.shape
    return np_.reshape(np_.swapaxes(np_.reshape(x, (n, groups, c // groups, *rest)), 1, 2), x.shape)


# -- losses --------------------------------------------------------------------------------------------------


def reduced(loss: Any, reduction: str = "mean") -> Any:
    return {"mean": np_.mean, "sum": np_.sum, "none": lambda x: x}[reduction](loss)


def classes_last(x: Any) -> Any:
    return np_.moveaxis(x, 1, -1) if len(x.shape) > 1 else x


def cross_entropy(x: Any, target: Any, *, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Any:
    if weight is not None:
        unoffered("weights of classes")
    if target.dtype.kind not in "iu":
        unoffered("targets that are probabilities")
    if ignore_index != -100:
        unoffered("a label to ignore")
    return losses.cross_entropy(classes_last(x), target, label_smoothing=label_smoothing, reduction=reduction)


def nll_loss(x: Any, target: Any, *, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    if weight is not None or ignore_index != -100:
        unoffered("weights of classes" if weight is not None else "a label to ignore")
    rows = classes_last(x)
    picked = np_.take_along_axis(rows, np_.expand_dims(target, -1), axis=-1)
    return reduced(-np_.squeeze(picked, -1), reduction)


def weighted(loss: Any) -> Any:
    def computed(x: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> Any:
        if pos_weight is not None:
            unoffered("a weight of positives")
        one = loss(x, target, reduction="none")
        return reduced(one if weight is None else np_.multiply(one, weight), reduction)

    return computed


def kl_divergence(x: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    if log_target or len(x.shape) < 1:
        unoffered("targets that are logarithms")
    if reduction in ("none", "mean"):
        unoffered("the terms of a row, or their mean, by themselves")
    return losses.kl_divergence(x, target, reduction="mean" if reduction == "batchmean" and len(x.shape) == 2 else
                                "sum" if reduction == "sum" else unoffered("a batch of another rank than two"))


def huber(x: Any, y: Any, *, reduction: str = "mean", delta: float = 1.0) -> Any:
    return losses.huber(x, y, delta=delta, reduction=reduction)


def smooth_l1(x: Any, y: Any, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    if beta == 0:
        return reduced(np_.abs(np_.subtract(x, y)), reduction)
    return np_.divide(losses.huber(x, y, delta=beta, reduction=reduction), beta)


def cosine_similarity(x: Any, y: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    x, y = np_.broadcast_arrays(x, y)
    if not x.shape:
        x, y = np_.reshape(x, (1,)), np_.reshape(y, (1,))
    return losses.cosine_similarity(np_.moveaxis(x, dim, -1), np_.moveaxis(y, dim, -1), eps=eps)


def triplet(a: Any, p: Any, n: Any, *, margin: float = 1.0, swap: bool = False, reduction: str = "mean",
            distance_function: Any = None) -> Any:
    if swap:
        unoffered("swapped anchors")
    return losses.triplet(a, p, n, margin=margin, reduction=reduction)


def cosine_embedding(x: Any, y: Any, same: Any, *, margin: float = 0.0, reduction: str = "mean") -> Any:
    return losses.cosine_embedding(x, y, same, margin=margin, reduction=reduction)


def soft_margin(x: Any, y: Any, *, reduction: str = "mean") -> Any:
    return reduced(F.softplus(np_.multiply(np_.negative(y), x)), reduction)


def margin_ranking(x: Any, y: Any, target: Any, *, margin: float = 0.0, reduction: str = "mean") -> Any:
    return reduced(np_.maximum(np_.add(np_.multiply(np_.negative(target), np_.subtract(x, y)), margin), 0), reduction)


def poisson(x: Any, target: Any, *, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> Any:
    if full:
        unoffered("Stirling's term")
    rate, log = (np_.exp(x), x) if log_input else (x, np_.log(np_.add(x, eps)))
    return reduced(np_.subtract(rate, np_.multiply(target, log)), reduction)


def pairwise_distance(x: Any, y: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    if p != 2:
        unoffered("distances other than the Euclidean one")
    return np_.linalg.norm(np_.add(np_.subtract(x, y), eps), axis=-1, keepdims=keepdim)


COUNTERPARTS = {
    **{f"nn.functional.conv{n}d": conv(n) for n in (1, 2, 3)},
    **{f"nn.functional.conv_transpose{n}d": conv_transpose(n) for n in (1, 2, 3)},
    **{f"nn.functional.avg_pool{n}d": avg_pool(n) for n in (1, 2, 3)},
    **{f"nn.functional.max_pool{n}d": max_pool(n) for n in (1, 2, 3)},
    **{f"nn.functional.adaptive_avg_pool{n}d": adaptive_avg_pool(n) for n in (1, 2, 3)},
    "nn.functional.pad.constant": constant_pad, "constant_pad_nd": lambda x, pad, value=0.0: constant_pad(x, pad, value=value),
    "nn.functional.layer_norm": layer_norm, "nn.functional.rms_norm": rms_norm, "nn.functional.group_norm": group_norm,
    "nn.functional.batch_norm": batch_norm, "nn.functional.batch_norm.without_cudnn": batch_norm,
    "native_layer_norm": layer_norm, "native_batch_norm": lambda x, weight, bias, mean, var, training, momentum, eps: batch_norm(
        x, mean, var, weight, bias, training, momentum, eps),
    "native_group_norm": lambda x, weight, bias, n, c, rest, groups, eps: group_norm(x, groups, weight, bias, eps),
    "nn.functional.instance_norm": instance_norm, "nn.functional.scaled_dot_product_attention": attention,
    "nn.functional.linear": linear, "nn.functional.bilinear": bilinear, "nn.functional.embedding": embedding,
    "nn.functional.one_hot": one_hot, "nn.functional.pixel_shuffle": pixel_shuffle, "nn.functional.pixel_unshuffle": pixel_unshuffle,
    "nn.functional.channel_shuffle": channel_shuffle, "nn.functional.cross_entropy": cross_entropy, "nn.functional.nll_loss": nll_loss,
    "nn.functional.binary_cross_entropy": weighted(losses.binary_cross_entropy),
    "nn.functional.binary_cross_entropy_with_logits": weighted(losses.binary_cross_entropy_with_logits),
    "nn.functional.mse_loss": lambda x, y, *, reduction="mean": losses.mse(x, y, reduction=reduction),
    "nn.functional.l1_loss": lambda x, y, *, reduction="mean": reduced(np_.abs(np_.subtract(x, y)), reduction),
    "nn.functional.huber_loss": huber, "nn.functional.smooth_l1_loss": smooth_l1, "nn.functional.kl_div": kl_divergence,
    "nn.functional.cosine_similarity": cosine_similarity, "nn.functional.cosine_embedding_loss": cosine_embedding,
    "nn.functional.triplet_margin_loss": triplet, "nn.functional.triplet_margin_with_distance_loss": triplet,
    "nn.functional.soft_margin_loss": soft_margin, "nn.functional.margin_ranking_loss": margin_ranking,
    "nn.functional.poisson_nll_loss": poisson, "nn.functional.pairwise_distance": pairwise_distance,
    "nn.functional.normalize": lambda x, p=2.0, dim=1, eps=1e-12: unoffered("norms other than the Euclidean one") if p != 2 else
        np_.divide(x, np_.maximum(np_.linalg.norm(x, axis=dim, keepdims=True), eps)),
}
