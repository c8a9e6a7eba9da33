"""Multi-head attention: self, cross and grouped-query."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph.nn import functional
from nagraph.nn.layers import Linear
from nagraph.nn.module import Module

Array = Any


class MultiHeadAttention(Module):
    """y = concat_h(attention(x Wq_h, c Wk_h, c Wv_h)) Wo; c is x (self) or a context (cross).

    With fewer key/value heads than query heads, groups of query heads share them.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    groups: int

    @classmethod
    def init(cls, key: Array, width: int, heads: int, *, groups: int | None = None, context_width: int | None = None,
             bias: bool = True, dtype: Any = np.float32) -> MultiHeadAttention:
        groups = groups or heads
        if width % heads or heads % groups:
            raise ValueError(f"width {width} must be a multiple of heads {heads}, and heads of groups {groups}")
        k1, k2, k3, k4 = ng.random.split(key, 4)
        inner, context = width // heads * groups, context_width or width
        return cls(Linear.init(k1, width, width, bias=bias, dtype=dtype), Linear.init(k2, context, inner, bias=bias, dtype=dtype),
                   Linear.init(k3, context, inner, bias=bias, dtype=dtype), Linear.init(k4, width, width, bias=bias, dtype=dtype),
                   heads, groups)

    def __call__(self, x: Array, context: Array | None = None, *, mask: Array | None = None, causal: bool = False) -> Array:
        c = x if context is None else context
        q = split_heads(self.query(x), self.heads)
        k, v = split_heads(self.key(c), self.groups), split_heads(self.value(c), self.groups)
        return self.output(join_heads(functional.attention(q, k, v, mask, causal=causal)))


def split_heads(x: Array, heads: int) -> Array:
    """[..., time, heads · d] -> [..., heads, time, d]."""
    return ng.numpy.swapaxes(ng.numpy.reshape(x, (*x.shape[:-1], heads, x.shape[-1] // heads)), -2, -3)


def join_heads(x: Array) -> Array:
    """[..., heads, time, d] -> [..., time, heads · d]."""
    *lead, heads, time, d = x.shape
    return ng.numpy.reshape(ng.numpy.swapaxes(x, -2, -3), (*lead, time, heads * d))
