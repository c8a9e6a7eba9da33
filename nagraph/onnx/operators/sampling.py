"""Elements of images at places that are data: grids, regions of interest, and images put together of their windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.pooling import MOST_TAPS
from nagraph.onnx.operators.windows import per_axis, spatial_of
from nagraph.onnx.registry import Ints, Known, operator, whole_numbers
from nagraph.ops.convolution import spread
from nagraph.ops.movement import iota
from nagraph.ops.slicing import Pad

#: How Keys's cubic bends.
_CUBIC = -0.75


@operator("GridSample")
def grid_sample(x: Any, grid: Any, *, align_corners: bool = False, mode: str = "linear", padding_mode: str = "zeros") -> Any:
    """x [batch, channels, *spatial] at the places of grid [batch, *out, axes], which go from -1 to 1, those of x's last axis first."""
    spatial = spatial_of(x)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    if len(grid.shape) != len(x.shape) or grid.shape[-1] != len(spatial) or grid.shape[0] != x.shape[0] or 0 in spatial:
        raise OnnxError(f"a grid of shape {list(grid.shape)} does not fit x of shape {list(x.shape)}")
    if mode not in ("nearest", "linear", "cubic") or padding_mode not in ("zeros", "border", "reflection"):
        raise OnnxError(f"mode {mode!r} is none of nearest, linear, cubic, or padding_mode {padding_mode!r} none of zeros, border, "
                        "reflection")
    out = tuple(grid.shape[1:-1])
    flat = F.reshape(grid, (grid.shape[0], math.prod(out), len(spatial)))
    places = []
    for a, n in enumerate(spatial):
        g = F.array(flat)[..., len(spatial) - 1 - a]
        at = (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2
        places.append(_within(at, n, padding_mode, align_corners))
    found = _sampled(x, places, spatial, mode, lambda i, n: _index(i, n, padding_mode, align_corners))
    return F.reshape(found, (*x.shape[:2], *out))


def _within(at: Any, n: int, padding: str, align: bool) -> Any:
    """The places themselves, moved to the border, or reflected at it."""
    if padding == "zeros":
        return at
    if padding == "border":
        return F.clip(at, 0, n - 1)
    low, high = (0.0, n - 1.0) if align else (-0.5, n - 0.5)
    span = high - low
    if span <= 0:
        return F.zeros_like(at)
    way = F.remainder(at - low, 2 * span)
    return F.where(F.greater(way, span), 2 * span - way, way) + low


def _index(i: Any, n: int, padding: str, align: bool) -> tuple[Any, Any]:
    """An index within the axis for each neighbour, and whether its element counts."""
    if padding == "zeros":
        return F.clip(i, 0, n - 1), F.logical_and(F.greater_equal(i, 0), F.less(i, n))
    if padding == "reflection":
        i = F.trunc(_within(i, n, padding, align))
    return F.clip(i, 0, n - 1), None


def _sampled(x: Any, places: list[Any], spatial: tuple[int, ...], mode: str, index: Callable[[Any, int], tuple[Any, Any]],
             combine: Callable[[Any, Any], Any] = F.add) -> Any:
    """[batch, channels, count] at places [batch, count] of each axis: neighbours times their coefficients, added up or else combined."""
    options = []
    for at, n in zip(places, spatial):
        if mode == "nearest":
            options.append([(*index(F.rint(at), n), None)])
            continue
        first = F.floor(at)
        part = at - first
        if mode == "linear":
            options.append([(*index(first, n), 1 - part), (*index(first + 1, n), part)])
        else:
            options.append([(*index(first + k, n), _keys(F.abs(part - k))) for k in (-1, 0, 1, 2)])
    flat, total = F.reshape(x, (*x.shape[:2], math.prod(spatial))), None
    for corner in itertools.product(*options):
        where, counts, factor = np.zeros((), np.int64), None, None
        for (i, inside, weight), n in zip(corner, spatial):
            where = where * n + F.astype(i, "i64")
            counts = inside if counts is None else F.logical_and(counts, inside)
            factor = weight if factor is None else factor * weight
        value = F.take_along_axis(flat, F.expand_dims(where, 1), -1)
        if counts is not None:
            value = F.where(F.expand_dims(counts, 1), value, F.zeros_like(value))
        value = value if factor is None else value * F.astype(F.expand_dims(factor, 1), x.dtype)
        total = value if total is None else combine(total, value)
    return total


def _keys(d: Any) -> Any:
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    return F.where(F.less_equal(d, 1), near, far)


@operator("RoiAlign")
def roi_align(x: Any, rois: Any, batch: Any, *, coordinate_transformation_mode: str = "half_pixel", mode: str = "avg",
              output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0, spatial_scale: float = 1.0) -> Any:
    """x [batch, channels, height, width] over boxes [count, 4] (x, y, x, y) of the examples `batch`: the mean of samples, or the largest of
    their neighbours, each times its coefficient."""
    if len(x.shape) != 4 or len(rois.shape) != 2 or rois.shape[1] != 4 or tuple(batch.shape) != (rois.shape[0],):
        raise OnnxError(f"x {list(x.shape)}, rois {list(rois.shape)} and batch_indices {list(batch.shape)} do not fit one another")
    if sampling_ratio < 1:
        raise OnnxError("with sampling_ratio 0 the number of samples follows from the boxes; give a number above 0")
    if mode not in ("avg", "max") or min(output_height, output_width) < 1 or sampling_ratio > 64:
        raise OnnxError(f"mode {mode!r}, output {output_height} x {output_width} or sampling_ratio {sampling_ratio} makes no sense")
    half = coordinate_transformation_mode == "half_pixel"
    box = F.array(rois * spatial_scale - (0.5 if half else 0.0))
    count, places = rois.shape[0], []
    for axis, size in ((1, output_height), (0, output_width)):
        length = box[:, axis + 2] - box[:, axis]
        length = length if half else F.maximum(length, np.asarray(1, x.dtype))
        step = (np.arange(size * sampling_ratio) + 0.5) / (size * sampling_ratio)
        places.append(F.expand_dims(box[:, axis], 1) + F.expand_dims(length, 1) * step.astype(x.dtype))
    rows, columns = (size * sampling_ratio for size in (output_height, output_width))
    y = F.reshape(F.broadcast_to(F.expand_dims(places[0], 2), (count, rows, columns)), (count, -1))
    z = F.reshape(F.broadcast_to(F.expand_dims(places[1], 1), (count, rows, columns)), (count, -1))
    spatial = tuple(x.shape[2:])
    outside = [F.logical_or(F.less(at, -1), F.greater(at, n)) for at, n in zip((y, z), spatial)]
    inside = [F.clip(at, 0, n - 1) for at, n in zip((y, z), spatial)]
    found = _sampled(F.take(x, batch, 0), inside, spatial, "linear", lambda i, n: (F.clip(i, 0, n - 1), None),
                     F.add if mode == "avg" else F.maximum)
    found = F.where(F.expand_dims(F.logical_or(*outside), 1), F.zeros_like(found), found)
    parts = F.reshape(found, (count, x.shape[1], output_height, sampling_ratio, output_width, sampling_ratio))
    return (F.mean if mode == "avg" else F.max)(parts, (3, 5))


@operator("Col2Im")
def columns_to_image(x: Any, image_shape: Known, block_shape: Known, *, dilations: Ints | None = None, pads: Ints | None = None,
                     strides: Ints | None = None) -> Any:
    """Windows [batch, channels * block, count] added up where they lie in the image."""
    image, block = whole_numbers("image_shape", image_shape), whole_numbers("block_shape", block_shape)
    d = len(image)
    stride, dilation, pad = per_axis("strides", strides, d), per_axis("dilations", dilations, d), per_axis("pads", pads, 2 * d, 0)
    per_axis("block_shape", block, d)
    padded = tuple(n + pad[a] + pad[a + d] for a, n in enumerate(image))
    counts = tuple((n - spread(k, s)) // t + 1 for n, k, s, t in zip(padded, block, dilation, stride))
    taps = math.prod(block)
    if len(x.shape) != 3 or x.shape[1] % taps or min(counts, default=1) < 1 or x.shape[2] != math.prod(counts) or taps > MOST_TAPS:
        raise OnnxError(f"windows {list(x.shape)} of {list(block)} do not make an image of {list(image)}")
    channels = x.shape[1] // taps
    parts = F.array(F.reshape(x, (x.shape[0], channels, *block, *counts)))
    total: Any = None
    for tap in itertools.product(*map(range, block)):
        low = tuple(t * s for t, s in zip(tap, dilation))
        high = tuple(n - (m - 1) * t - 1 - a for n, m, t, a in zip(padded, counts, stride, low))
        put = Pad((0, 0, *low), (0, 0, *high), (0, 0, *(t - 1 for t in stride)))(parts[(slice(None), slice(None), *tap)])
        total = put if total is None else total + put
    return F.array(total)[(..., *(slice(pad[a], pad[a] + n) for a, n in enumerate(image)))]


@operator("TensorScatter")
def tensor_scatter(cache: Any, update: Any, starts: Any = None, *, axis: int = -2, mode: str = "linear") -> Any:
    """cache with the update of each example written along an axis, from the example's start on; "circular" goes on at the beginning."""
    rank = len(cache.shape)
    place = axis % rank if -rank <= axis < rank else 0
    if place < 1 or len(update.shape) != rank or any(m != n for a, (m, n) in enumerate(zip(update.shape, cache.shape)) if a != place):
        raise OnnxError(f"an update of shape {list(update.shape)} does not fit a cache of shape {list(cache.shape)} along axis {axis}")
    lead = tuple(update.shape[:place + 1])
    at = iota("int64", lead, place)
    if starts is not None:
        at = at + F.reshape(F.astype(starts, "i64"), (-1, *(1,) * place))
    at = F.remainder(at, np.int64(cache.shape[place])) if mode == "circular" else at
    return F.set_at(cache, (*(iota("int64", lead, a) for a in range(place)), at), update)
