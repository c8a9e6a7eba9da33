"""Padding and cutting at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.shapes import MOST_INDICES, possible
from nagraph.onnx.registry import Ints, Known, checked_axes, operator, whole_numbers


@operator("Pad")
def pad(x: Any, pads: Known, constant_value: Any = None, axes: Known | None = None, *, mode: str = "constant") -> Any:
    """pads: all lower ends, then all upper ones; negative numbers cut."""
    rank = len(x.shape)
    along = checked_axes(range(rank) if axes is None else whole_numbers("axes", axes), rank)
    numbers = whole_numbers("pads", pads)
    if len(numbers) != 2 * len(along):
        raise OnnxError(f"pads has {len(numbers)} numbers for {len(along)} axes; each has two")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(along):
        widths[axis] = numbers[i], numbers[i + len(along)]
    x = F.array(x)[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths))]
    widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    possible(x.dtype, [a + n + b for n, (a, b) in zip(x.shape, widths)])
    if mode == "constant":
        return _filled(x, widths, constant_value)
    for axis, (a, b) in enumerate(widths):
        if a or b:
            x = _repeated(x, axis, a, b, mode)
    return x


def _filled(x: Any, widths: list[tuple[int, int]], value: Any) -> Any:
    if not any(map(any, widths)):
        return x
    if value is None or x.dtype == np.bool_:
        padded = F.pad(x, widths)
        if value is None:
            return padded
    else:
        padded = F.pad(x, widths)
    inside = F.pad(F.ones(x.shape, np.bool_), widths)
    return F.where(inside, padded, F.reshape(value, ()))


def _repeated(x: Any, axis: int, a: int, b: int, mode: str) -> Any:
    n = x.shape[axis]
    if not n:
        raise OnnxError(f"{mode} takes elements from axis {axis}, which has none")
    if mode == "edge" or mode == "reflect" and max(a, b) < n:
        return F.pad(x, [(a, b) if i == axis else (0, 0) for i in range(len(x.shape))], mode)
    if mode not in ("reflect", "wrap"):
        raise OnnxError(f"mode is constant, edge, reflect or wrap, not {mode!r}")
    if n + a + b > MOST_INDICES:
        raise OnnxError(f"{mode} makes {n + a + b:,} elements of the {n:,} of axis {axis}; {MOST_INDICES:,} are the most")
    return F.take(x, np.pad(np.arange(n), (a, b), mode), axis)  # type: ignore[call-overload]


@operator("CenterCropPad")
def center_crop_pad(x: Any, shape: Known, *, axes: Ints | None = None) -> Any:
    """The middle of x, with zeros around it where it is smaller than asked for."""
    rank, wanted = len(x.shape), whole_numbers("shape", shape)
    along = checked_axes(range(rank) if axes is None else axes, rank)
    if len(wanted) != len(along):
        raise OnnxError(f"shape has {len(wanted)} numbers for {len(along)} axes")
    widths = [(0, 0)] * rank
    for axis, size in zip(along, wanted):
        missing = size - x.shape[axis]
        low = missing // 2 if missing > 0 else -(-missing // 2)
        widths[axis] = low, missing - low
    return pad(x, np.array([a for a, _ in widths] + [b for _, b in widths]))
