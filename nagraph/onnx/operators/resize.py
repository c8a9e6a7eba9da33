"""Resize: interpolation along one axis after another, at places and with coefficients that follow from sizes alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.shapes import MOST_INDICES
from nagraph.onnx.registry import Ints, Known, checked_axes, operator, whole_numbers

#: Neighbours that are read one by one; more are a matrix product.
MOST_TAPS = 8
_TRANSFORMATIONS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")


class _Axis(NamedTuple):
    """An axis to resize: its size before and after, the scale, and the part that is cropped out, from 0 to 1."""

    n: int
    m: int
    scale: float
    begin: float
    end: float


@operator("Resize")
def resize(x: Any, roi: Known | None = None, scales: Known | None = None, sizes: Known | None = None, *, antialias: bool = False,
           axes: Ints | None = None, coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75,
           exclude_outside: bool = False, extrapolation_value: float = 0.0, keep_aspect_ratio_policy: str = "stretch",
           mode: str = "nearest", nearest_mode: str = "round_prefer_floor") -> Any:
    rank = len(x.shape)
    along = checked_axes(range(rank) if axes is None else axes, rank)
    if coordinate_transformation_mode not in _TRANSFORMATIONS:
        raise OnnxError(f"coordinate_transformation_mode is one of {', '.join(_TRANSFORMATIONS)}, not {coordinate_transformation_mode!r}")
    if mode not in ("nearest", "linear", "cubic"):
        raise OnnxError(f"mode is nearest, linear or cubic, not {mode!r}")
    found = _axes(x, along, roi, scales, sizes, keep_aspect_ratio_policy)
    exact = mode == "nearest"
    y: Any = x if exact or x.dtype.itemsize == 8 and x.dtype.kind == "f" else F.astype(x, "f32")
    for place, axis in zip(along, found):
        crop = (axis.begin, axis.end) != (0.0, 1.0) and coordinate_transformation_mode == "tf_crop_and_resize"
        if axis.n == axis.m and (axis.scale == 1 or not axis.n) and not crop:
            continue
        if axis.m * max(1.0, 4 / max(axis.scale, 1e-9)) > MOST_INDICES or not axis.n and axis.m:
            raise OnnxError(f"axis {place} can't be resized from {axis.n:,} to {axis.m:,} elements")
        at = _places(axis, coordinate_transformation_mode)
        outside = (at < 0) | (at > axis.n - 1) if coordinate_transformation_mode == "tf_crop_and_resize" else None
        if exact:
            y = F.take(y, np.clip(_rounded(at, nearest_mode), 0, axis.n - 1), place)
        else:
            y = _interpolated(y, place, axis.n, *_coefficients(at, axis, mode, cubic_coeff_a, antialias, exclude_outside))
        if outside is not None and outside.any():
            mask = outside.reshape(-1, *(1,) * (rank - place - 1))
            y = F.where(mask, np.asarray(extrapolation_value, y.dtype), y)
    if y.dtype == x.dtype:
        return y
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        y = F.clip(F.rint(y), float(info.min), float(info.max))
    return F.astype(y, x.dtype)


@operator("Upsample", since=9)
def upsample(x: Any, scales: Known, *, mode: str = "nearest") -> Any:
    return resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _axes(x: Any, along: tuple[int, ...], roi: Any, scales: Any, sizes: Any, policy: str) -> list[_Axis]:
    count = len(along)
    scales = None if scales is None or not scales.size else [float(s) for s in scales.reshape(-1)]
    sizes = None if sizes is None or not sizes.size else list(whole_numbers("sizes", sizes))
    if (scales is None) == (sizes is None) or len(scales or sizes or ()) != count:
        raise OnnxError(f"either scales or sizes must be given, with a number for each of the {count} axes")
    before = [x.shape[a] for a in along]
    if sizes is not None:
        if min(sizes) < 0 or 0 in before:
            raise OnnxError(f"{before} can't be resized to {sizes}")
        factors = [m / n for n, m in zip(before, sizes)]
        if policy != "stretch":
            if policy not in ("not_larger", "not_smaller"):
                raise OnnxError(f"keep_aspect_ratio_policy is stretch, not_larger or not_smaller, not {policy!r}")
            factors = [(min if policy == "not_larger" else max)(factors)] * count
            sizes = [math.floor(f * n + 0.5) for f, n in zip(factors, before)]
    else:
        assert scales is not None
        if any(not (math.isfinite(s) and s > 0) for s in scales):
            raise OnnxError(f"scales are {scales}, but must be above 0")
        factors, sizes = scales, [math.floor(s * n) for s, n in zip(scales, before)]
    parts = [(0.0, 1.0)] * count
    if roi is not None and roi.size:
        if roi.size != 2 * count or not np.isfinite(roi.astype(np.float64)).all():
            raise OnnxError(f"roi has {roi.size} numbers for {count} axes; each has two")
        numbers = [float(r) for r in roi.reshape(-1)]
        parts = list(zip(numbers[:count], numbers[count:]))
    return [_Axis(n, m, f, *part) for n, m, f, part in zip(before, sizes, factors, parts)]


def _places(axis: _Axis, transformation: str) -> np.ndarray:
    """Where the elements of the result lie in x, in float64."""
    i, n, m = np.arange(axis.m, dtype=np.float64), axis.n, axis.scale * axis.n
    if transformation == "align_corners":
        return np.zeros(axis.m) if m == 1 else i * (n - 1) / (m - 1)
    if transformation == "asymmetric":
        return i / axis.scale
    if transformation == "tf_crop_and_resize":
        span = axis.end - axis.begin
        inner = np.full(axis.m, span * (n - 1) / 2) if m == 1 else i * span * (n - 1) / (m - 1)
        return inner + axis.begin * (n - 1)
    if transformation == "pytorch_half_pixel" and m == 1:
        return np.full(axis.m, -0.5)
    shift = n / 2 * (1 - axis.m / m) if transformation == "half_pixel_symmetric" else 0
    return shift + (i + 0.5) / axis.scale - 0.5


def _rounded(at: np.ndarray, mode: str) -> np.ndarray:
    found = {"round_prefer_floor": lambda: np.ceil(at - 0.5), "round_prefer_ceil": lambda: np.floor(at + 0.5),
             "floor": lambda: np.floor(at), "ceil": lambda: np.ceil(at)}.get(mode)
    if found is None:
        raise OnnxError(f"nearest_mode is round_prefer_floor, round_prefer_ceil, floor or ceil, not {mode!r}")
    return found().astype(np.int64)


def _coefficients(at: np.ndarray, axis: _Axis, mode: str, a: float, antialias: bool, exclude: bool) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each place, [m, taps], and how much each counts. Antialiasing makes the kernel as wide as a step of the result."""
    squeeze = min(axis.scale, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / squeeze
    first = np.floor(at) - math.ceil(reach) + 1
    index = first[:, None] + np.arange(2 * math.ceil(reach))
    distance = np.abs(index - at[:, None]) * squeeze
    weight = np.clip(1 - distance, 0, None) if mode == "linear" else _cubic(distance, a)
    if exclude:
        weight = np.where((index < 0) | (index >= axis.n), 0.0, weight)
    if antialias or exclude:
        total = weight.sum(-1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
    return np.clip(index, 0, axis.n - 1).astype(np.int64), weight


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _interpolated(x: Any, place: int, n: int, index: np.ndarray, weight: np.ndarray) -> Any:
    if index.shape[1] > MOST_TAPS:
        if index.shape[0] * n > MOST_INDICES:
            raise OnnxError(f"an axis of {n:,} elements can't be resized to {index.shape[0]:,} with {index.shape[1]} neighbours each")
        table = np.zeros((index.shape[0], n))
        np.add.at(table, (np.arange(index.shape[0])[:, None], index), weight)
        return F.moveaxis(F.matmul(F.moveaxis(x, place, -1), table.T.astype(x.dtype)), -1, place)
    each = (len(x.shape) - place - 1) * (1,)
    taps = [F.take(x, index[:, t], place) * weight[:, t].astype(x.dtype).reshape(-1, *each) for t in range(index.shape[1])]
    return sum(taps[1:], taps[0])
