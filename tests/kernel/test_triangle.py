"""Triangles: which kernels compute nothing that counts beyond the diagonal, and which do."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.kernel.axis_classes import AxisClasses
from nagraph.kernel.form import Kernel
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.stage_split import split_stage
from nagraph.kernel.triangle import triangle
from nagraph.ops.movement import iota
from nagraph.pipeline import Pipeline

N = 8
EXPANDED = Pipeline.parse("canonicalize,simplify,cse,dce,expand,simplify,cse,dce")  # without folding, so that masks are computed
MASKED = {
    "sum": lambda s, m: np.where(m, s, 0).sum(axis=-1),
    "max": lambda s, m: np.where(m, s, -np.inf).max(axis=-1),
    "softmax": lambda s, m: ng.nn.functional.softmax(np.where(m, s, -np.inf)) @ np.ones((N, 3), "f4"),
    "product": lambda s, m: (s * m.astype("float32")).sum(axis=-1),
}
UNMASKED = {
    "a sum of all": lambda s, m: s.sum(axis=-1) + np.where(m, s, 0).sum(axis=-1),
    "a mask that adds": lambda s, m: np.where(m, s, 1).sum(axis=-1),
    "a minimum that -inf would change": lambda s, m: np.where(m, s, -np.inf).min(axis=-1),
    "scores that are stored": lambda s, m: np.where(m, s, 0),
    "a column beyond it": lambda s, m: (w := ng.nn.functional.softmax(np.where(m, s, -np.inf))) @ np.ones((N, 3), "f4") + w[..., -1:],
}


def kernel_of(fn):
    def whole(x, y):
        i, j = iota("int32", (N, N), 0), iota("int32", (N, N), 1)
        return fn(np.exp(x[:, :, None] * y[:, None, :]), i >= j)

    return lower(EXPANDED(ng.trace(whole, ng.spec((4, N), "float32"), ng.spec((4, N), "float32"))))


@pytest.mark.parametrize("name", MASKED)
def test_what_is_masked_beyond_the_diagonal_is_not_wanted(name):
    kernel = kernel_of(MASKED[name])
    held = triangle(kernel, AxisClasses(kernel))
    assert held is not None and any(held.conditions)


@pytest.mark.parametrize("name", UNMASKED)
def test_what_counts_beyond_the_diagonal_is_computed(name):
    kernel = kernel_of(UNMASKED[name])
    assert triangle(kernel, AxisClasses(kernel)) is None


def test_a_mask_the_other_way_round_is_no_triangle_of_these_rows():
    kernel = kernel_of(lambda s, m: np.where(~m, s, 0).sum(axis=-1))
    held = triangle(kernel, AxisClasses(kernel))
    assert held is None


def test_stages_apart_compute_what_they_did_together():
    def fn(x, y):
        return np.tanh(x) * 2, np.exp(y) + 1, np.exp(y) * 3

    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(4, N)).astype("f4") for _ in range(2))
    kernel = lower(EXPANDED(ng.trace(fn, x, y)))
    (stage,) = kernel.stages
    parts = split_stage(stage)
    assert [len(p.stores) for p in parts] == [1, 1, 1] and all(len(p.body) < len(stage.body) for p in parts)
    split = Kernel(kernel.axes, kernel.grid, kernel.operands, kernel.outputs, kernel.tiles, tuple(parts))
    outputs = [np.zeros_like(x) for _ in range(3)]
    interpret_kernel(split, [x, y], outputs)
    for got, want in zip(outputs, fn(x, y)):
        np.testing.assert_allclose(got, want, rtol=1e-6)
