"""Attention, and rotary positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import BOOL
from nagraph.nn import functional
from nagraph.onnx.registry import operator
from nagraph.ops.movement import iota


@operator("Attention")
def attention(q: Any, k: Any, v: Any, mask: Any = None, past_key: Any = None, past_value: Any = None, lengths: Any = None, *,
              is_causal: bool = False, kv_num_heads: int | None = None, q_num_heads: int | None = None, qk_matmul_output_mode: int = 0,
              scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None, left_window_size: int = -1,
              right_window_size: int = -1, call: Any) -> Any:
    """q [batch, heads, n, d] or [batch, n, heads d]; the keys and values of before come first. lengths: keys that count, by example."""
    flat = len(q.shape) == 3
    if flat:
        if not q_num_heads or not kv_num_heads:
            raise OnnxError("with operands of 3 axes q_num_heads and kv_num_heads must be given")
        q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        raise OnnxError(f"queries, keys and values have {len(q.shape)}, {len(k.shape)} and {len(v.shape)} axes, but must have 3 or 4")
    if (past_key is None) != (past_value is None):
        raise OnnxError("past_key and past_value must be given together")
    before = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = F.concatenate([past_key, k], 2), F.concatenate([past_value, v], 2)
    n, m = q.shape[2], k.shape[2]
    if mask is not None and mask.shape[-1] < m:  # what it does not speak of is not seen
        width = [(0, 0)] * (len(mask.shape) - 1) + [(0, m - mask.shape[-1])]
        mask = F.pad(mask, width) if mask.dtype == BOOL else F.pad(mask, width, constant_values=-np.inf)
    seen = _seen(n, m, before, lengths, is_causal, left_window_size, right_window_size)
    if call.outputs <= 3 and not softcap and (seen is None or mask is None or mask.dtype == BOOL):
        both = seen if mask is None else mask if seen is None else F.logical_and(mask, seen)
        y, scores = functional.attention(q, k, v, None if both is None else F.astype(both, q.dtype) if both.dtype != BOOL else both,
                                         scale=scale), None
    else:
        y, scores = _in_steps(q, k, v, mask, seen, scale, softcap, softmax_precision, qk_matmul_output_mode, call)
    if flat:
        y = F.reshape(F.transpose(y, (0, 2, 1, 3)), (y.shape[0], n, y.shape[1] * y.shape[3]))
    return (y, k, v, scores)[:call.outputs]


def _heads(x: Any, heads: int) -> Any:
    if heads < 1 or x.shape[-1] % heads:
        raise OnnxError(f"a width of {x.shape[-1]} does not divide into {heads} heads")
    return F.transpose(F.reshape(x, (*x.shape[:2], heads, x.shape[-1] // heads)), (0, 2, 1, 3))


def _seen(n: int, m: int, before: int, lengths: Any, causal: bool, left: int, right: int) -> Any:
    """Which keys a query may see by its place: [n, m] or [batch, 1, n, m]; None if all."""
    conditions: list[Any] = []
    offset: Any = before
    if lengths is not None:
        count = F.reshape(F.astype(lengths, "i64"), (-1, 1, 1, 1))
        conditions.append(F.less(F.reshape(iota("int64", (m,), 0), (1, 1, 1, m)), count))
        offset = count - n if not before else before
    distance = iota("int64", (n, m), 1) - iota("int64", (n, m), 0) - offset
    if causal:
        conditions.append(F.less_equal(distance, 0))
    if left >= 0:
        conditions.append(F.greater_equal(distance, -left))
    if right >= 0:
        conditions.append(F.less_equal(distance, right))
    found: Any = None
    for condition in conditions:
        found = condition if found is None else F.logical_and(found, condition)
    return found


def _in_steps(q: Any, k: Any, v: Any, mask: Any, seen: Any, scale: float | None, softcap: float, precision: int | None, mode: int,
              call: Any) -> tuple[Any, Any]:
    """Attention with its scores: as products (mode 0), with softcap (1), with the masks (2), or as probabilities (3)."""
    groups, heads = k.shape[1], q.shape[1]
    if groups != heads:
        if not groups or heads % groups:
            raise OnnxError(f"{heads} heads of queries are not a multiple of {groups} of keys")
        k, v = F.repeat(k, heads // groups, 1), F.repeat(v, heads // groups, 1)
    root = math.sqrt(1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else scale)
    scores = F.matmul(q * root, F.swapaxes(k * root, -1, -2))
    shown = [scores]
    if softcap:
        scores = F.tanh(scores / softcap) * softcap
    shown.append(scores)
    low = np.asarray(-np.inf, scores.dtype)
    bias: Any = None
    for part in (mask, seen):
        if part is not None:
            added = F.where(part, np.zeros((), scores.dtype), low) if part.dtype == BOOL else F.astype(part, scores.dtype)
            bias = added if bias is None else bias + added
    scores = scores if bias is None else scores + bias
    shown.append(scores)
    wide = F.astype(scores, call.dtype(precision)) if precision else scores
    p = functional.softmax(wide, axis=-1)
    if bias is not None:
        p = F.where(F.equal(F.max(bias, -1, keepdims=True), low), F.zeros_like(p), p)
    p = F.astype(p, q.dtype)
    shown.append(p)
    if not 0 <= mode < len(shown):
        raise OnnxError(f"qk_matmul_output_mode is 0 to 3, not {mode}")
    return F.matmul(p, v), F.astype(shown[mode], q.dtype)


@operator("RotaryEmbedding")
def rotary_embedding(x: Any, cos: Any, sin: Any, positions: Any = None, *, interleaved: bool = False, num_heads: int = 0,
                     rotary_embedding_dim: int = 0) -> Any:
    """x [batch, heads, time, d] or [batch, time, heads d], of which the first `rotary_embedding_dim` of each head are turned."""
    flat = len(x.shape) == 3
    y = F.array(_heads(x, num_heads) if flat else x)
    width = rotary_embedding_dim or y.shape[-1]
    if len(y.shape) != 4 or width % 2 or width > y.shape[-1] or cos.shape[-1] != width // 2:
        raise OnnxError(f"x {list(x.shape)} and tables of {cos.shape[-1]} columns do not fit rotary_embedding_dim {width}")
    c, s = (F.expand_dims(t if positions is None else F.take(t, positions, 0), 1) for t in (cos, sin))
    turned, rest = y[..., :width], y[..., width:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = F.reshape(F.stack([a * c - b * s, b * c + a * s], -1), turned.shape)
    else:
        a, b = turned[..., :width // 2], turned[..., width // 2:]
        turned = F.concatenate([a * c - b * s, b * c + a * s], -1)
    y = F.concatenate([turned, rest], -1) if width < y.shape[-1] else turned
    return F.reshape(F.transpose(y, (0, 2, 1, 3)), x.shape) if flat else y
