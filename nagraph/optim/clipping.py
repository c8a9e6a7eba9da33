"""Gradient clipping: functions of a tree of gradients, None leaves kept."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph import tree
from nagraph.optim.base import computing_dtype


def global_norm(grads: Any) -> Any:
    """√(sum of the squares of all elements of all leaves): float64 if a leaf is, else float32."""
    sums = []
    for g in tree.leaves(grads):
        if g is not None:
            wide = ng.numpy.astype(g, computing_dtype(g.dtype))
            sums.append(ng.numpy.sum(wide * wide))
    total: Any = np.float32(0)
    for s in sums:
        total = total + s
    return ng.numpy.sqrt(total)


def clip_by_global_norm(grads: Any, limit: float) -> tuple[Any, Any]:
    """(grads · min(1, limit / (norm + 1e-6)), norm): the same direction, at most `limit` long.

    The norm returned is the one before clipping. Where it is not finite, neither are the gradients.
    """
    if not limit > 0:
        raise ValueError(f"clip_by_global_norm: limit must be greater than 0, got {limit}")
    norm = global_norm(grads)
    scale = ng.numpy.minimum(limit / (norm + 1e-6), 1)
    return tree.map(lambda g: None if g is None else g * ng.numpy.astype(scale, g.dtype), grads), norm


def clip_by_value(grads: Any, limit: float) -> Any:
    """Each element between -limit and limit."""
    if not limit > 0:
        raise ValueError(f"clip_by_value: limit must be greater than 0, got {limit}")
    return tree.map(lambda g: None if g is None else ng.numpy.clip(g, -limit, limit), grads)
