"""Augmentation: images moved, mirrored and turned at random, whole batches at once; each a pure function of its generator.

Batches are float32 [n, channels, height, width]; every image of a batch draws its own amounts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError

Array = np.ndarray[Any, Any]
Generator = np.random.Generator

#: So many pixels are warped at a time: what is computed on the way then stays in a cache.
_AT_ONCE = 8192


def shift(rng: Generator, pixels: Array, amount: int) -> Array:
    """Each image moved by up to `amount` whole pixels down or up, right or left; zeros come in."""
    return _windows(rng, np.pad(pixels, _border(amount)), amount)


def crop(rng: Generator, pixels: Array, padding: int) -> Array:
    """A random window, as large as the image, of each image with its border mirrored `padding` pixels outwards."""
    return _windows(rng, np.pad(pixels, _border(padding), mode="symmetric"), padding)


def _border(amount: int) -> tuple[tuple[int, int], ...]:
    return (0, 0), (0, 0), (amount, amount), (amount, amount)


def _windows(rng: Generator, padded: Array, amount: int) -> Array:
    n, _, height, width = padded.shape
    top, left = rng.integers(0, 2 * amount + 1, (2, n))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height - 2 * amount, width - 2 * amount), axis=(2, 3))
    return windows[np.arange(n), :, top, left]


def flip(rng: Generator, pixels: Array, probability: float = 0.5) -> Array:
    """Each image mirrored left to right with that probability."""
    chosen = rng.random(len(pixels)) < probability
    return np.where(chosen[:, None, None, None], pixels[..., ::-1], pixels)


def affine(rng: Generator, pixels: Array, rotation: float = 0.0, scale: float = 0.0, move: float = 0.0) -> Array:
    """Each image turned by up to `rotation` degrees, scaled by 1 / (1 + scale) to 1 + scale, moved by up to `move` pixels."""
    n = len(pixels)
    angles = np.radians(rng.uniform(-rotation, rotation, n))
    scales = np.exp(rng.uniform(-1, 1, n) * math.log1p(scale))
    return warp(pixels, angles, scales, rng.uniform(-move, move, (n, 2)))


def warp(pixels: Array, angles: Array, scales: Array, moves: Array) -> Array:
    """Images turned counterclockwise about their centres (radians [n]), scaled [n], moved ([n, 2]: down, right); zeros come in.

    Bilinear: a pixel is the mean of the four around the place it comes from, weighted by their nearness.
    """
    n, _, height, width = pixels.shape
    cos, sin = (np.asarray(f(angles) / scales, np.float32) for f in (np.cos, np.sin))
    moves = np.asarray(moves, np.float32)
    out = np.empty_like(pixels)
    count = max(1, _AT_ONCE // (height * width))
    for first in range(0, n, count):
        some = slice(first, first + count)
        out[some] = _warp(pixels[some], cos[some], sin[some], moves[some])
    return out


def _warp(pixels: Array, cos: Array, sin: Array, moves: Array) -> Array:
    n, channels, height, width = pixels.shape
    middle_y, middle_x = np.float32((height - 1) / 2), np.float32((width - 1) / 2)
    y = (np.arange(height, dtype=np.float32) - middle_y - moves[:, :1])[:, :, None]
    x = (np.arange(width, dtype=np.float32) - middle_x - moves[:, 1:])[:, None, :]
    cos, sin = cos[:, None, None], sin[:, None, None]
    # Where each pixel comes from. Whatever lies outside reads the border of zeros: one before, two after.
    from_y = np.clip(cos * y + sin * x + middle_y, -1, height)
    from_x = np.clip(cos * x - sin * y + middle_x, -1, width)
    row, column = np.floor(from_y), np.floor(from_x)
    down, right = from_y - row, from_x - column

    padded = np.zeros((n, channels, height + 3, width + 3), np.float32)
    padded[:, :, 1:height + 1, 1:width + 1] = pixels
    stride, plane = width + 3, (height + 3) * (width + 3)
    at = ((row + 1) * stride + column + 1).astype(np.intp) + (np.arange(n) * channels * plane)[:, None, None]
    both = down * right
    corners = ((0, 1 - down - (right - both)), (1, right - both), (stride, down - both), (stride + 1, both))
    out = np.zeros((n, channels, height, width), np.float32)
    for channel in range(channels):
        for offset, weight in corners:
            out[:, channel] += padded.reshape(-1)[channel * plane + offset:].take(at) * weight
    return out


def statistics(pixels: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each channel, float32 [channels]; what `normalise` takes."""
    mean, std = (np.asarray(f(pixels, axis=(0, 2, 3), dtype=np.float64), np.float32) for f in (np.mean, np.std))
    return mean, std


def normalise(pixels: Array, mean: Any, std: Any) -> Array:
    """(pixels - mean) / std, each one number or one a channel, float32. DataError if a deviation is not positive."""
    mean, std = (np.asarray(x, np.float32).reshape(-1, 1, 1) for x in (mean, std))
    if not (std > 0).all():
        raise DataError(f"channel {int(np.argmin(std > 0))} does not vary, so it can't be normalised: its standard deviation is "
                        f"{float(std.min()):g}")
    return np.asarray((pixels - mean) / std, np.float32)


@dataclass(frozen=True)
class Augmentation:
    """An augmentation changes each batch of images, in the order of its fields; zeros do nothing.

    shift: whole pixels. rotation: degrees. scale: 0.1 is up to 10 % larger or smaller. flip: mirror every other image.
    crop: pixels of mirrored border. DataError for amounts that can't be.
    """

    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "crop"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise DataError(f"{name} is a whole number of pixels, at least 0, not {getattr(self, name)!r}")
        for name in ("rotation", "scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DataError(f"{name} is at least 0 and finite, not {getattr(self, name)!r}")

    def __call__(self, rng: Generator, pixels: Array) -> Array:
        """The batch augmented, float32 [n, channels, height, width] as before; the one given is left as it is."""
        if self.shift:
            pixels = shift(rng, pixels, self.shift)
        if self.rotation or self.scale:
            pixels = affine(rng, pixels, self.rotation, self.scale)
        if self.flip:
            pixels = flip(rng, pixels)
        if self.crop:
            pixels = crop(rng, pixels, self.crop)
        return pixels
