"""Scaled dot-product attention and rotary positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.composites.base import composite
from nagraph.composites.softmax import _finite_max, _reciprocal
from nagraph.errors import TypeRuleError
from nagraph.ir.sizes import larger, same, same_shape
from nagraph.ir.types import BOOL, SHORT_NAMES, is_float
from nagraph.ops.comparison import greater_equal
from nagraph.ops.contraction import matmul
from nagraph.ops.elementwise import where
from nagraph.ops.identities import Recompute
from nagraph.ops.joining import concatenate
from nagraph.ops.movement import broadcast_to, iota, reshape, swapaxes
from nagraph.ops.reduction import sum as sum_of
from nagraph.ops.rules import sum_to
from nagraph.ops.special import exp


def _grouped(x: Any, heads: int) -> Any:
    """Key or value heads repeated so that there are as many as query heads: [..., g, t, d] -> [..., h, t, d]."""
    *lead, g, t, d = x.shape
    if g == heads:
        return x
    wide = broadcast_to(reshape(x, (*lead, g, 1, t, d)), (*lead, g, heads // g, t, d))
    return reshape(wide, (*lead, heads, t, d))


def _ungrouped(ct: Any, groups: int) -> Any:
    *lead, h, t, d = ct.shape
    if h == groups:
        return ct
    return sum_of(reshape(ct, (*lead, groups, h // groups, t, d)), axis=-3)


def _scale(q: Any, scale: float | None) -> float:
    """What scores are multiplied with: 1/√d unless given; where d is 0 all scores are 0."""
    return 1 / math.sqrt(larger(q.shape[-1], 1)) if scale is None else scale


def _scores(q: Any, k: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    factor = _scale(q, scale)
    s = matmul(q, swapaxes(k, -1, -2)) * factor
    n, m = s.shape[-2:]
    low = np.asarray(-np.inf, s.dtype)
    if causal:
        rows, columns = iota("int32", (n, m), 0), iota("int32", (n, m), 1)
        s = where(greater_equal(rows + (m - n), columns), s, low)
    if mask is None:
        return s
    if mask.dtype == BOOL:
        return where(mask, s, low)
    if mask.dtype != s.dtype:
        raise TypeRuleError(f"attention: a mask is bool (True where attention is allowed), or of the dtype of the scores, "
                            f"{SHORT_NAMES[s.dtype]}, and added to them; got {SHORT_NAMES[mask.dtype]}")
    return s + mask


def _statistics(s: Any) -> tuple[Any, Any]:
    """(m, r) of each row of scores, with softmax s = exp(s - m) r; rows that are masked throughout give zeros."""
    m = _finite_max(s, -1)
    return m, _reciprocal(sum_of(exp(s - m), axis=-1, keepdims=True))


@composite(integers=("mask",))
def attention(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None) -> Any:
    """y = softmax(q kᵀ · scale + mask) v; scale is 1/√d unless given.

    q [..., heads, n, d], k and v [..., groups, m, d] with heads a multiple of groups (grouped
    queries). mask, broadcastable to [..., heads, n, m]: bool, True where attention is allowed, or
    numbers of q's dtype that are added to the scores.
    causal: query i sees keys up to i + m - n. A row that sees nothing gives zeros.
    Source: Vaswani et al. 2017; Ainslie et al. 2023.
    """
    if (min(q.ndim, k.ndim, v.ndim) < 3 or not same(q.shape[-1], k.shape[-1], "attention")
            or not same_shape(k.shape[-3:-1], v.shape[-3:-1], "attention")):
        raise TypeRuleError("attention: q is [..., heads, n, d], k [..., groups, m, d] and v [..., groups, m, e]; "
                            f"got q {q.type}, k {k.type}, v {v.type}" + "; x[None] is one head" * (q.ndim == 2))
    if q.shape[-3] != k.shape[-3] and (not k.shape[-3] or q.shape[-3] % k.shape[-3]):  # no heads at all are fine
        raise TypeRuleError(f"attention: the {q.shape[-3]} heads of q {q.type} must be a multiple of k's {k.shape[-3]} groups, {k.type}")
    return _attention_fwd(q, k, v, mask, causal=causal, scale=scale)[0]


def _attention_fwd(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool = False, scale: float | None = None) -> Any:
    heads = q.shape[-3]
    s = _scores(q, _grouped(k, heads), mask, causal, scale)
    m, r = _statistics(s)
    out = matmul(exp(s - m) * r, _grouped(v, heads))
    return out, (q, k, v, out, m, r) if mask is None else (q, k, v, out, m, r, mask)


def _attention_bwd(residuals: Any, cts: Any, *, causal: bool = False, scale: float | None = None) -> Any:
    """From scores computed again: p = exp(s - m) r, ct_s = p (ct vᵀ - sum(ct out)). Source: Dao et al. 2022."""
    # Where both passes stand in one graph, the probabilities would be kept otherwise.
    (q, k, v, out, m, r, *mask), (ct,) = map(Recompute(), residuals), cts
    heads, groups = q.shape[-3], k.shape[-3]
    factor = _scale(q, scale)
    wide_k, wide_v = _grouped(k, heads), _grouped(v, heads)
    p = exp(_scores(q, wide_k, mask[0] if mask else None, causal, scale) - m) * r
    ct_v = matmul(swapaxes(p, -1, -2), ct)
    ct_p = matmul(ct, swapaxes(wide_v, -1, -2))
    ct_masked = p * (ct_p - sum_of(ct * out, axis=-1, keepdims=True))
    ct_s = ct_masked * factor
    ct_q = matmul(ct_s, wide_k)
    ct_k = matmul(swapaxes(ct_s, -1, -2), q)
    added = [sum_to(ct_masked, mask[0].type)] if mask and is_float(mask[0].dtype) else []
    return ct_q, _ungrouped(ct_k, groups), _ungrouped(ct_v, groups), *added


attention.declare(_attention_fwd, _attention_bwd)


@composite()
def rope(x: Any, cos: Any, sin: Any) -> Any:
    """Rotary positions, half-split layout: y = [x₁ cos - x₂ sin, x₂ cos + x₁ sin].

    x [..., time, d]; cos and sin [time, d/2]. Source: Su et al. 2021.
    """
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def rope_tables(time: int, width: int, base: float = 10000.0, dtype: Any = np.float32) -> tuple[Any, Any]:
    """cos and sin of t · base^(-2i/width), each [time, width/2]."""
    angles = np.arange(time)[:, None] * base ** (-np.arange(0, width, 2) / width)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
