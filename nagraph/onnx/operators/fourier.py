"""Fourier transforms, as products with matrices of cosines and sines in float64, whose zeros are zeros in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.shapes import MOST_INDICES
from nagraph.onnx.registry import Known, checked_axis, operator


@operator("DFT", since=17)
def transform_along_attribute(x: Any, length: Known | None = None, *, axis: int = 1, inverse: bool = False, onesided: bool = False) -> Any:
    return transform(x, length, np.array(axis), inverse=inverse, onesided=onesided)


@operator("DFT", since=20)
def transform(x: Any, length: Known | None = None, axis: Known | None = None, *, inverse: bool = False, onesided: bool = False) -> Any:
    """x [..., 1] or [..., 2], real and imaginary parts last. onesided: half of the frequencies of a real signal, which say all."""
    rank = len(x.shape)
    place = checked_axis(-2 if axis is None else int(axis.reshape(-1)[0]), rank)
    if place == rank - 1 or x.shape[-1] not in (1, 2):
        raise OnnxError(f"x has shape {list(x.shape)}: its last axis holds real and imaginary parts, and another one is transformed")
    known = x.shape[place]
    n = int(length.reshape(-1)[0]) if length is not None else 2 * (known - 1) if inverse and onesided else known
    wanted = n // 2 + 1 if onesided and inverse else n
    if n < 1 or n * max(known, n) > MOST_INDICES:
        raise OnnxError(f"a transform of length {n:,} is none that is made as a product with a matrix")
    moved = F.array(F.moveaxis(F.astype(x, "f64"), place, -2))
    moved = moved[..., :wanted, :] if known > wanted else F.pad(moved, [(0, 0)] * (rank - 2) + [(0, wanted - known), (0, 0)])
    if onesided and inverse:
        found = _real_inverse(F.array(moved), n)
    else:
        real, imaginary = moved[..., 0], moved[..., 1] if x.shape[-1] == 2 else None
        angles = 2 * np.pi / n * (np.outer(np.arange(n), np.arange(n // 2 + 1 if onesided else n)) % n)
        c, s = np.cos(angles), np.sin(angles) * (1 if inverse else -1)
        a, b = F.matmul(real, c), F.matmul(real, s)
        if imaginary is not None:
            a, b = a - F.matmul(imaginary, s), b + F.matmul(imaginary, c)
        found = F.stack([a, b], -1)
        found = found / n if inverse else found
    return F.astype(F.moveaxis(found, -2, place), x.dtype)


def _real_inverse(x: Any, n: int) -> Any:
    """The real signal of length n whose first n / 2 + 1 frequencies are given."""
    k = np.arange(n // 2 + 1)
    angles = 2 * np.pi / n * (np.outer(k, np.arange(n)) % n)
    twice = np.where((k == 0) | (2 * k == n), 1.0, 2.0)[:, None] / n
    real = F.matmul(x[..., 0], np.cos(angles) * twice)
    if x.shape[-1] == 2:
        real = real - F.matmul(x[..., 1], np.sin(angles) * twice)
    return F.expand_dims(real, -1)


@operator("STFT")
def short_time_transform(signal: Any, step: Known, window: Any = None, length: Known | None = None, *, onesided: bool = True) -> Any:
    """The transforms of windows of a signal [batch, time, 1 or 2], `step` apart: [batch, windows, frequencies, 2]."""
    if len(signal.shape) not in (2, 3) or window is None and length is None:
        raise OnnxError(f"a signal of shape {list(signal.shape)} must be [batch, time, 1 or 2], with a window or its length")
    x = F.expand_dims(signal, -1) if len(signal.shape) == 2 else signal
    size = int(length.reshape(-1)[0]) if length is not None else window.shape[0]
    hop = int(step.reshape(-1)[0])
    if hop < 1 or not 1 <= size <= x.shape[1] or window is not None and tuple(window.shape) != (size,):
        raise OnnxError(f"windows of {size} elements, {hop} apart, do not fit a signal of {x.shape[1]}")
    begins = np.arange((x.shape[1] - size) // hop + 1) * hop
    if begins.size * size > MOST_INDICES:
        raise OnnxError(f"{begins.size:,} windows of {size:,} elements are too many")
    frames = F.take(x, begins[:, None] + np.arange(size), 1)
    frames = frames if window is None else frames * F.reshape(window, (size, 1))
    return transform(frames, None, np.array(-2), onesided=onesided)
