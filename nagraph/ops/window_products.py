"""Convolutions as matrix products over windows: no tap of the kernel is a loop of its own."""

from __future__ import annotations

import itertools
import math

from nagraph.ir.graph import Value
from nagraph.ir.types import TensorType
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.convolution import Axes, ConvGeneral, Pairs, spread, window_count
from nagraph.ops.identities import Materialize
from nagraph.ops.joining import concatenate
from nagraph.ops.movement import broadcast_to, reshape, transpose
from nagraph.ops.rules import zeros_like
from nagraph.ops.slicing import Pad, Slice
from nagraph.ops.windows import Windows

#: Channels of a group from which its convolution is a matrix product that is worth the name.
LEAST_GROUP = 8

#: A product over windows reads all of its kernel once for each row of results: shorter ones would rather have their windows side by side.
FEW_RESULTS = 12


def channels_last(conv: ConvGeneral, x: Value, w: Value) -> Value:
    """The convolution of x [N, *spatial, C] with w [*kernel, C / groups, O]: y [N, *out, O].

    y[n, p, o] = sum over k, c of x[n, p * stride + k * dilation - low, c] w[k, c, o]: a matrix product over windows. They are copied
    where rows of results are short and all windows together no larger than w.
    """
    d = len(conv.stride)
    if conv.stride == (1,) * d and max(conv.lhs_dilation) > 1:
        return _by_phases(conv, x, w)
    seen = _windows(conv, x, w.shape[:d])
    kernel = tuple(range(d + 2, 2 * d + 2))
    seen = transpose(seen, (*range(d + 1), *kernel, d + 1))
    inner = tuple(range(d + 1, 2 * d + 1))
    if seen.shape[d] < FEW_RESULTS and seen.type.size <= w.type.size:
        seen = Materialize()(seen)
    if conv.groups == 1:
        found: Value = DotGeneral(((*inner, 2 * d + 1), tuple(range(d + 1))), ((), ()))(seen, w)
        return found
    g, c, o = conv.groups, w.shape[d], w.shape[d + 1] // conv.groups
    seen, w = reshape(seen, (*seen.shape[:-1], g, c)), reshape(w, (*w.shape[:-1], g, o))
    y = DotGeneral(((*inner, 2 * d + 2), tuple(range(d + 1))), ((2 * d + 1,), (d + 1,)))(seen, w)
    joined: Value = reshape(transpose(y, (*range(1, d + 2), 0, d + 2)), (*y.shape[1:d + 2], g * o))
    return joined


def batch_last(conv: ConvGeneral, x: Value, w: Value) -> Value:
    """The convolution of x [C, *spatial, N] with w [C, *kernel, O]: y [*out, N, O]. It has one group.

    A weight gradient looks like this: the images that are summed over stand in the role of the channels.
    """
    d = len(conv.stride)
    seen = transpose(_windows(conv, x, w.shape[1:d + 1]), (*range(1, d + 2), 0, *range(d + 2, 2 * d + 2)))
    found: Value = DotGeneral((tuple(range(d + 1, 2 * d + 2)), tuple(range(d + 1))), ((), ()))(seen, w)
    return found


def _windows(conv: ConvGeneral, x: Value, kernel: Axes) -> Value:
    """What each result sees of x, dilated and padded on its axes 1 ... d."""
    d = len(conv.stride)
    inner = (0, *(n - 1 for n in conv.lhs_dilation), 0)
    padded = padded_by(x, ((0, 0), *conv.padding, (0, 0)), inner)
    found: Value = Windows(tuple(range(1, d + 1)), kernel, conv.stride, conv.dilation)(padded)
    return found


def padded_by(x: Value, amounts: Pairs, inner: Axes) -> Value:
    """x with zeros between its elements and around it; negative amounts cut it."""
    low, high = (tuple(max(p[side], 0) for p in amounts) for side in (0, 1))
    y = Pad(low, high, inner)(x) if any((*low, *high, *inner)) else x
    start = tuple(max(-p[0], 0) for p in amounts)
    stop = tuple(n - max(-p[1], 0) for n, p in zip(y.shape, amounts))
    return Slice(start, stop, (1,) * y.ndim)(y) if start != (0,) * y.ndim or stop != y.shape else y


class _Phase:
    """The results p = r * spacing + phase along an axis, over an x whose elements stand `spacing` apart.

    They meet every `step`-th tap from `first` on, `taps` in all, `apart` elements of x between them, from element
    r - low on. No other tap meets an element.
    """

    def __init__(self, phase: int, kernel: int, low: int, dilation: int, spacing: int):
        shared = math.gcd(dilation, spacing)
        self.step, self.apart = spacing // shared, dilation // shared
        self.first = next((k for k in range(self.step) if (phase + k * dilation - low) % spacing == 0), kernel)
        self.taps = len(range(self.first, kernel, self.step))
        self.low = (low - phase - self.first * dilation) // spacing


def _by_phases(conv: ConvGeneral, x: Value, w: Value) -> Value:
    """A convolution of stride 1 over a dilated x, without the products with the zeros between x's elements.

    The results at p = r * spacing + phase meet the same taps: for each phase they are a convolution of x itself.
    """
    d = len(conv.stride)
    kernel, spacing = w.shape[:d], conv.lhs_dilation
    out = [window_count(spread(n, s) + low + high, spread(k, a), 1) for n, s, (low, high), k, a in zip(
        x.shape[1:], spacing, conv.padding, kernel, conv.dilation)]
    counts = [-(-n // s) for n, s in zip(out, spacing)]
    parts = []
    for numbers in itertools.product(*map(range, spacing)):
        phases = [_Phase(n, *rest) for n, *rest in zip(numbers, kernel, (p[0] for p in conv.padding), conv.dilation, spacing)]
        if any(p.taps == 0 for p in phases):
            parts.append(broadcast_to(zeros_like(reshape(Slice((0,) * w.ndim, (1,) * w.ndim, (1,) * w.ndim)(w), ())),
                                      (x.shape[0], *counts, w.shape[-1])))
            continue
        start, step = tuple(p.first for p in phases), tuple(p.step for p in phases)
        part = Slice((*start, 0, 0), w.shape, (*step, 1, 1))(w)
        padding = tuple((p.low, count - 1 + spread(p.taps, p.apart) - n - p.low)
                        for p, count, n in zip(phases, counts, x.shape[1:]))
        apart = tuple(p.apart for p in phases)
        parts.append(channels_last(ConvGeneral((1,) * d, padding, apart, (1,) * d, conv.groups), x, part))
    y = concatenate(parts, axis=d + 1)
    y = reshape(y, (*y.shape[:d + 1], *spacing, w.shape[-1]))
    turned = transpose(y, (0, *(a for i in range(d) for a in (1 + i, d + 1 + i)), 2 * d + 1))
    y = reshape(turned, (y.shape[0], *(c * s for c, s in zip(counts, spacing)), w.shape[-1]))
    return padded_by(y, ((0, 0), *((0, n - size) for n, size in zip(out, y.shape[1:])), (0, 0)), (0,) * y.ndim)


def as_product(conv: ConvGeneral, x: TensorType, w: TensorType) -> bool:
    """Whether a convolution is worth being a matrix product: of floats, with channels enough in each group."""
    y = conv.infer(x, w)
    wide = conv.groups == 1 or min(w.shape[1], w.shape[0] // conv.groups) >= LEAST_GROUP
    return x.dtype.kind == "f" and x.dtype.itemsize >= 4 and wide and y.size > 0 and x.size > 0
