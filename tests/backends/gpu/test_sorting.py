"""Sorts, run on this CPU from their text: stable, nan last, of every dtype, of short and long rows, however the operand is stored."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nagraph.backends.gpu.dialect import CUDA, METAL
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.sorting import emit_sort
from nagraph.backends.gpu.target import gpu_target
from nagraph.ir.types import DTYPES, FLOATS, TensorType
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.ops.sorting import Argsort, Sort
from nagraph.program.instructions import SortTask
from tests.backends.gpu.kernels import COMPILES, run

pytestmark = COMPILES
DIALECTS = {"cuda": (gpu_target("sm_90"), CUDA), "metal": (gpu_target("apple7"), METAL)}
#: Shapes and axes: rows of one key, of less than a warp, of a block, of more than fits shared memory.
SHAPES = [((4, 1), 1), ((70, 5), 1), ((5, 70), 0), ((3, 33, 2), 1), ((2, 700), 1), ((5000,), 0)]


def tasks(rng):
    """Sorts with keys, many of them equal; and where the elements of the operand are in memory."""
    for n, (shape, axis) in enumerate(SHAPES):
        for op in (Sort(axis), Argsort(axis)):
            yield op, keys(rng, DTYPES["f32"], shape), row_major(shape)
        x = keys(rng, list(DTYPES.values())[n], shape)
        yield Argsort(axis), np.asfortranarray(x), StridedLayout(0, tuple(s // x.itemsize for s in np.asfortranarray(x).strides))
    for dtype in DTYPES.values():
        yield Sort(1), keys(rng, dtype, (3, 40)), row_major((3, 40))


def keys(rng, dtype, shape):
    x = rng.integers(-9 if dtype.kind != "u" else 0, 9, math.prod(shape)).astype(dtype)
    if dtype in FLOATS:
        x[rng.random(x.size) < 0.1] = np.nan
        x[rng.random(x.size) < 0.1] = -0.0
    return x.reshape(shape)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sorts(dialect):
    kernels, made = Kernels(dialect), []
    for op, x, layout in tasks(np.random.default_rng(0)):
        if dialect == "metal" and x.dtype == DTYPES["f64"]:
            continue
        function = emit_sort(SortTask(op, TensorType(x.dtype, x.shape), layout), *DIALECTS[dialect])
        kernels.add(function)
        made.append((op, x, function))
    assert any(f.scratch_nbytes for *_, f in made) and any(f.shared_nbytes for *_, f in made)
    for op, x, function in made:
        expected = op.reference(x)
        stored = x.reshape(-1, order="F") if not x.flags.c_contiguous else x
        found = run(kernels, function, [stored], np.empty(expected.shape, expected.dtype))
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes(), (str(op), x.dtype, x.shape)
