"""Composites that MLX computes whole (`mlx.core.fast`); what its functions do not promise is put right around them.

rope is none of them: the house's takes tables of cosines and sines, MLX's makes its own, by functions that lose digits at far positions.
"""

from __future__ import annotations

import math
from typing import Any

from nagraph.backends.mps.rules.rule import Rule
from nagraph.ir.op import Op
from nagraph.ir.types import BOOL, DTYPES
from nagraph.ops.base import NARROW_FLOATS
from nagraph.regions.calls import Call

Array = Any
F32 = DTYPES["f32"]


def _call(m: Any, op: Call, *operands: Array) -> Any:
    rule = CLAIMED.get(op.label) if op.kind == "composite" else None
    found = rule(m, op, *operands) if rule is not None else None
    return m.walk(op.body, operands) if found is None else found


def _wide(m: Any, x: Array) -> Array:
    return m.to(x, F32) if m.dtype(x) in NARROW_FLOATS else x


def _layer_norm(m: Any, op: Call, x: Array, *affine: Array) -> Array | None:
    """Of the distances from the row's first element: so a row of equal numbers gives zeros, wherever it lies."""
    options = dict(op.options)
    if any(a.ndim != 1 or a.shape[0] != x.shape[-1] for a in affine) or not x.size:
        return None
    given = iter(affine)
    weight, bias = (None if name in options else next(given, None) for name in ("weight", "bias"))
    x = _wide(m, x)
    distances = m.subtract(x, m.part(x, (..., slice(0, 1))))
    return m.fast("layer_norm", distances, *(None if a is None else _wide(m, a) for a in (weight, bias)), options.get("eps", 1e-5))


def _rms_norm(m: Any, op: Call, x: Array, weight: Array | None = None) -> Array | None:
    if weight is not None and (weight.ndim != 1 or weight.shape[0] != x.shape[-1]) or not x.size:
        return None
    return m.fast("rms_norm", _wide(m, x), None if weight is None else _wide(m, weight), dict(op.options).get("eps", 1e-6))


def _attention(m: Any, op: Call, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array | None:
    """Rows that a mask hides throughout are 0 here; where `causal` hides some, or comes with a mask, MLX is not asked."""
    options = dict(op.options)
    causal, lead = options.get("causal", False), tuple(q.shape[:-3])
    n, count, d = q.shape[-2], k.shape[-2], q.shape[-1]
    if tuple(k.shape[:-3]) != lead or tuple(v.shape[:-3]) != lead or 0 in (q.size, k.size, v.size):
        return None
    if causal and (n > count or mask is not None):
        return None
    q, k, v = (m.shaped(_wide(m, x), [math.prod(lead), *x.shape[-3:]]) for x in (q, k, v))
    scale = options.get("scale")
    scale = 1 / math.sqrt(d) if scale is None else scale
    if mask is None:
        y = m.fast("scaled_dot_product_attention", q, k, v, scale=scale, mask="causal" if causal else None)
        return m.shaped(y, [*lead, *y.shape[1:]])
    seen = _wide(m, mask)
    full = m.shaped(m.broadcast_to(seen, [*lead, q.shape[1], n, count]), [q.shape[0], q.shape[1], n, count])
    y = m.fast("scaled_dot_product_attention", q, k, v, scale=scale, mask=full)
    some = full if m.dtype(full) == BOOL else m.greater(full, m.number(-math.inf, F32))
    y = m.where(m.any(some, axis=-1, keepdims=True), y, m.number(0, F32))
    return m.shaped(y, [*lead, *y.shape[1:]])


#: By label. Each gives the result, or None where it is to be opened.
CLAIMED = {"attention": _attention, "layer_norm": _layer_norm, "rms_norm": _rms_norm}
RULES: dict[type[Op], Rule] = {Call: Rule(_call)}
