"""Pooling over windows, and over whole images."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.windows import Windows, spatial_of, windows
from nagraph.onnx.registry import Ints, Known, operator, whole_numbers
from nagraph.ops.movement import iota
from nagraph.ops.pooling import WindowMax, WindowSum
from nagraph.ops.reduction import lowest

#: The most elements of a window that is read tap by tap.
MOST_TAPS = 1024


@operator("MaxPool")
def max_pool(x: Any, *, kernel_shape: Ints, auto_pad: str = "NOTSET", ceil_mode: bool = False, dilations: Ints | None = None,
             pads: Ints | None = None, storage_order: int = 0, strides: Ints | None = None, call: Any) -> Any:
    """The largest element of each window, and where it is in x, row-major or (storage_order 1) column-major."""
    spatial = spatial_of(x)
    found = windows(spatial, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    if call.outputs == 1 and _plain(found):
        return WindowMax(found.sizes, found.strides, found.padding)(x)
    return _largest(x, found, spatial, storage_order)[:call.outputs]


def _plain(found: Windows) -> bool:
    """Whether the house's own pooling has such windows."""
    return set(found.dilations) == {1} and all(max(pair) < k for pair, k in zip(found.padding, found.sizes))


def _largest(x: Any, found: Windows, spatial: tuple[int, ...], storage_order: int) -> tuple[Any, Any]:
    """Tap by tap: the larger so far, and its place."""
    order = range(len(spatial)) if storage_order == 0 else range(len(spatial))[::-1]
    steps = dict(zip(reversed(order), itertools.accumulate([1, *(spatial[a] for a in list(reversed(order))[:-1])], lambda a, b: a * b)))
    lead = (F.reshape(iota("int64", (x.shape[0] * x.shape[1],), 0), (*x.shape[:2], *(1,) * len(spatial))) * math.prod(spatial))
    places = sum((iota("int64", spatial, a) * steps[a] for a in range(len(spatial))), np.int64(0)) + lead
    best: Any = None
    for value, place in zip(_taps(x, found, spatial, lowest(x.dtype)), _taps(places, found, spatial, 0)):
        if best is None:
            best = value, place
        else:
            larger = F.greater(value, best[0])
            best = F.where(larger, value, best[0]), F.where(larger, place, best[1])
    assert best is not None
    return best


def _taps(x: Any, found: Windows, spatial: tuple[int, ...], fill: Any) -> Any:
    """For each place in a window the elements there of all windows."""
    if math.prod(found.sizes) > MOST_TAPS:
        raise OnnxError(f"its windows have {math.prod(found.sizes):,} elements; with dilation, or places asked for, "
                        f"{MOST_TAPS:,} are the most")
    lead = ((0, 0),) * (len(x.shape) - len(spatial))
    inside = F.pad(F.ones(spatial, np.bool_), found.padding)
    padded = F.where(inside, F.pad(x, (*lead, *found.padding)), np.asarray(fill, x.dtype)) if any(map(any, found.padding)) else F.array(x)
    counts = found.counts(spatial)
    for tap in itertools.product(*map(range, found.sizes)):
        yield padded[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, found.dilations, counts, found.strides)))]


@operator("AveragePool")
def average_pool(x: Any, *, kernel_shape: Ints, auto_pad: str = "NOTSET", ceil_mode: bool = False, count_include_pad: bool = False,
                 dilations: Ints | None = None, pads: Ints | None = None, strides: Ints | None = None) -> Any:
    spatial = spatial_of(x)
    found = windows(spatial, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return _sums(x, found, spatial) / _counts(found, spatial, count_include_pad, x.dtype)


def _sums(x: Any, found: Windows, spatial: tuple[int, ...]) -> Any:
    if _plain(found):
        return WindowSum(found.sizes, found.strides, found.padding)(x)
    return functools.reduce(F.add, _taps(x, found, spatial, 0))


def _counts(found: Windows, spatial: tuple[int, ...], padding: bool, dtype: Any) -> Any:
    """How many elements of each window count: those of x, and of the padding that was asked for."""
    total: Any = np.ones((), np.float32)
    for a, (n, k, s, d, (low, _), asked) in enumerate(
            zip(spatial, found.sizes, found.strides, found.dilations, found.padding, found.asked)):
        count = found.counts(spatial)[a]
        first, last = (-asked[0], n + asked[1]) if padding else (0, n)
        begins = iota("int64", (count,), 0) * s - low
        below = F.maximum(-(-(first - begins) // d), 0)
        above = F.minimum(-(-(last - begins) // d), k)
        total = total * F.reshape(F.astype(above - below, "f32"), (count, *(1,) * (len(spatial) - a - 1)))
    return F.astype(total, dtype)


@operator("LpPool")
def lp_pool(x: Any, *, kernel_shape: Ints, p: int = 2, auto_pad: str = "NOTSET", ceil_mode: bool = False, dilations: Ints | None = None,
            pads: Ints | None = None, strides: Ints | None = None) -> Any:
    spatial = spatial_of(x)
    found = windows(spatial, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return F.power(_sums(F.power(F.abs(x), float(p)), found, spatial), 1 / p)


@operator("GlobalAveragePool")
def global_average_pool(x: Any) -> Any:
    return F.mean(x, tuple(range(2, 2 + len(spatial_of(x)))), keepdims=True)


@operator("GlobalMaxPool")
def global_max_pool(x: Any) -> Any:
    return F.max(x, tuple(range(2, 2 + len(spatial_of(x)))), keepdims=True)


@operator("GlobalLpPool")
def global_lp_pool(x: Any, *, p: int = 2) -> Any:
    axes = tuple(range(2, 2 + len(spatial_of(x))))
    return F.power(F.sum(F.power(F.abs(x), float(p)), axes, keepdims=True), 1 / p)


@operator("MaxUnpool")
def max_unpool(x: Any, indices: Any, output_shape: Known | None = None, *, kernel_shape: Ints, pads: Ints | None = None,
               strides: Ints | None = None) -> Any:
    """Each element at its place in an image of zeros, row-major over the whole of it."""
    spatial = spatial_of(x)
    d = len(spatial)
    low = (0,) * 2 * d if pads is None else tuple(pads)
    stride = (1,) * d if strides is None else tuple(strides)
    if not len(kernel_shape) == len(stride) == d == len(low) // 2:
        raise OnnxError(f"kernel_shape, strides and pads do not fit {d} spatial axes")
    usual = tuple((n - 1) * s - low[i] - low[i + d] + k for i, (n, s, k) in enumerate(zip(spatial, stride, kernel_shape)))
    small, wanted = (*x.shape[:2], *usual), None if output_shape is None else whole_numbers("output_shape", output_shape)
    flat = F.set_at(F.zeros(math.prod(small), x.dtype), F.reshape(indices, (-1,)), F.reshape(x, (-1,)))
    made = F.reshape(flat, small)
    if wanted is None:
        return made
    if len(wanted) != len(small) or any(m < n for n, m in zip(small, wanted)):
        raise OnnxError(f"output_shape is {list(wanted)}, but must be {list(small)} or larger")
    return F.pad(made, [(0, m - n) for n, m in zip(small, wanted)])
