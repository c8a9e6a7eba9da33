"""The GPU's order of additions, written down in NumPy: sums that run on this CPU from their text have its bits, whatever their schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.order import FoldOrder, fold_order
from nagraph.backends.gpu.schedule import SCRATCH, Spread
from nagraph.backends.gpu.strategy import choose
from nagraph.backends.gpu.target import gpu_target
from nagraph.kernel.form import Kernel
from tests.backends.gpu.kernels import COMPILES, SOFTMAX, kernel, run

pytestmark = COMPILES
H100 = gpu_target("sm_90")
Array = np.ndarray[Any, Any]


def folded(x: Array, order: FoldOrder) -> Array:
    """The sums of the rows of x in an order, one addition after another."""
    rows, n = x.shape
    step = order.chains * order.run
    padded = np.concatenate([x, np.zeros((rows, -n % step), x.dtype)], 1).reshape(rows, -1, order.chains, order.run)
    chains = np.swapaxes(padded, 1, 2).reshape(rows, order.chains, -1)
    start = np.zeros((rows, order.chains, 1), x.dtype)
    found = np.add.accumulate(np.concatenate([start, chains], 2), axis=2, dtype=x.dtype)[..., -1]
    found = found.reshape(rows, -1, min(order.chains, 32))
    for axis in (2, 1):  # the lanes of each warp, then the warps
        while found.shape[axis] > 1:
            low, high = np.split(found, 2, axis)
            found = low + high
    return found.reshape(rows)


def test_sums_have_the_bits_of_their_order():
    rng, kernels = np.random.default_rng(0), Kernels("cuda")
    wanted = []
    for rows, columns, across, order in ((5, 99, 1, FoldOrder(32, 1)), (3, 17, 1, FoldOrder(32, 1)), (7, 700, 1, FoldOrder(64, 4)),
                                         (3, 9000, 1, FoldOrder(1024, 4)), (64, 300, 0, FoldOrder(32, 1)), (5000, 33, 0, FoldOrder())):
        x = rng.normal(size=(rows, columns) if across else (columns, rows)).astype(np.float32)
        made: Kernel = kernel(lambda x, axis=across: x.sum(axis), x.shape)
        assert fold_order(made, made.stages[0]) == order
        wanted.append((emit(made, H100, CUDA), x, folded(x if across else x.T, order)))
    for function, _, _ in wanted:
        kernels.add(function)
    for function, x, sums in wanted:
        np.testing.assert_array_equal(run(kernels, function, [x], np.empty_like(sums)), sums)


def test_running_sums_have_the_bits_of_their_order():
    rng, kernels = np.random.default_rng(2), Kernels("cuda")
    made = kernel(lambda x: np.cumsum(x, axis=1), (3, 1000))
    assert fold_order(made, made.stages[0]) == FoldOrder(64, 16)
    x = rng.normal(size=(3, 1000)).astype(np.float32)
    parts = [x[:, at:at + 16] for at in range(0, 1000, 16)]
    totals = np.stack([np.add.accumulate(p, axis=1, dtype=np.float32)[:, -1] for p in parts], 1)
    before = np.concatenate([np.full((3, 1), -0.0, np.float32), np.add.accumulate(totals, axis=1, dtype=np.float32)[:, :-1]], 1)
    sums = [np.add.accumulate(np.concatenate([before[:, n:n + 1], p], 1), axis=1, dtype=np.float32)[:, 1:] for n, p in enumerate(parts)]
    np.testing.assert_array_equal(run(kernels, emit(made, H100, CUDA), [x], np.empty_like(x)), np.concatenate(sums, 1))
    short = kernel(lambda x: np.cumsum(x, axis=1), (5000, 1000))
    assert fold_order(short, short.stages[0]) == FoldOrder()


def test_no_schedule_changes_a_bit():
    made, x = SOFTMAX((9, 200)), np.random.default_rng(1).normal(size=(9, 200)).astype(np.float32)
    usual, kernels = choose(made, H100), Kernels("cuda")
    others = [usual, replace(usual, points=1), replace(usual, threads=128, points=2), replace(usual, points=16, apart=True),
              replace(usual, tiles=(*usual.tiles[:2], SCRATCH)), replace(usual, stages=(*usual.stages[:2], Spread(1, 1)))]
    functions = [emit(made, H100, CUDA, schedule) for schedule in others]
    assert len({f.name for f in functions}) == len(functions)
    for function in functions:
        kernels.add(function)
    first, *rest = [run(kernels, f, [x], np.empty_like(x)) for f in functions]
    np.testing.assert_allclose(first, np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-5)
    for other in rest:
        np.testing.assert_array_equal(other, first)
