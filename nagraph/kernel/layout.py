"""Strided layouts say where an array's elements are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nagraph.kernel.affine import strides


class StridedLayout(NamedTuple):
    """A strided layout puts element [i, j, ...] at offset + i * strides[0] + j * strides[1] + ..., counted in elements."""

    offset: int
    strides: tuple[int, ...]


def row_major(shape: Sequence[int]) -> StridedLayout:
    """The layout of an array of its own, whose last axis has stride 1."""
    return StridedLayout(0, strides(shape))
