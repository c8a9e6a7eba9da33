"""Gradient clipping: functions of a tree of gradients, None leaves kept."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

import nagraph as ng
from nagraph import tree
from nagraph.optim.base import computing_dtype


def global_norm(grads: Any) -> Any:
    """√(sum of the squares of all elements of all leaves): float64 if a leaf is, else float32."""
    wide = [ng.numpy.astype(g, computing_dtype(g.dtype)) for g in tree.leaves(grads) if g is not None]
    dtype = np.result_type(np.float32, *(g.dtype for g in wide))
    squares = [ng.numpy.astype(ng.numpy.sum(g * g), dtype) for g in wide]
    return ng.numpy.sqrt(functools.reduce(operator.add, squares) if squares else np.zeros((), dtype))


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
